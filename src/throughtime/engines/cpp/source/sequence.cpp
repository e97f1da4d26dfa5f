// The engine's entry points: a whole sequence forwards or backwards, each thread with its own part of
// the batch for all of time.
#include "backward.h"
#include "forward.h"
#include "misfit.h"
#include "subnormals.h"
#include "threads.h"

namespace throughtime {
namespace {

inline int64_t segments(const Job& job) {
    return job.segment ? divide_up(job.time, job.segment) : 1;
}
inline int64_t segment_length(const Job& job) { return job.segment ? job.segment : job.time; }

// The pointers of the state before a segment: the initial state, or a snapshot.
inline void enter(const Job& job, Walk& walk, int64_t segment, const real** entry) {
    const int64_t fields = job.depth + job.memories, size = job.batch * job.hidden;
    walk.begin = segment * segment_length(job);
    walk.end = std::min(job.time, walk.begin + segment_length(job));
    for (int64_t i = 0; i < fields; i++)
        entry[i] = segment == 0 ? job.initial[i].at : job.snapshots.at + (segment * fields + i) * size;
    walk.entry = entry;
}

// What one share of a pass works with; threads that share rows share all values.
struct Place {
    Walk walk;
    const real** entry;
    Accumulators sums;
    real *outputs = nullptr, *saved = nullptr;  // of a replayed segment, or of the last steps
    real** memories;

    Place(const Job& job, int64_t rows, int64_t steps, int64_t saved_steps, const Accumulators& sums,
          const Place* leader, bool leads, Room& room)
        : walk{job, 0, 0, 0, 0, nullptr, {}, {}, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr},
          sums(sums) {
        Walk::take_room(room, job, rows, &walk);
        entry = room.take<const real*>(job.depth + job.memories);
        memories = room.take<real*>(job.memories);
        if (!leads) {
            if (!leader) return;
            outputs = leader->outputs, saved = leader->saved, memories = leader->memories;
            return;
        }
        outputs = room.take<real>(steps * rows * job.hidden);
        for (int64_t m = 0; m < job.memories; m++) {
            real* at = room.take<real>(steps * rows * job.hidden);
            if (memories) memories[m] = at;
        }
        saved = room.take<real>(saved_steps * rows * job.saved * job.hidden);
    }
    void own(int64_t steps, bool keep_saved) {
        const int64_t rows = walk.rows(), first = walk.first;
        walk.outputs = {outputs, steps, rows, first};
        walk.saved = {keep_saved && walk.job.saved ? saved : nullptr, steps, rows, first};
        for (int64_t m = 0; m < walk.job.memories; m++)
            walk.memories[m] = {memories[m], steps, rows, first};
    }
    // Histories that the caller keeps take the place of our own.
    void kept() {
        const Job& job = walk.job;
        if (job.outputs) walk.outputs = {job.outputs, job.time, job.batch, 0};
        if (job.saved_values) walk.saved = {job.saved_values, job.time, job.batch, 0};
        for (int64_t m = 0; m < job.memories; m++)
            if (job.histories[m]) walk.memories[m] = {job.histories[m], job.time, job.batch, 0};
    }
};

inline Step step_of(const Job& job, const Member& member, const real* parameters,
                    real* parameter_gradients) {
    return {job.hidden, whole_vectors(job.hidden), member.first_unit, member.last_unit,
            parameters, job.stream_strides, parameter_gradients, 0};
}

struct ForwardPass {
    const Job& job;
    Room room;
    Shares shares;
    Barrier barrier;
    ForwardWeights weights;
    Place* places;

    explicit ForwardPass(const Job& job)
        : job(job), room(job.workspace), shares(job), barrier(shares.by_units, room),
          weights(job, shares, room) {
        places = room.take<Place>(shares.count());
        for (int64_t i = 0; i < shares.count(); i++) {
            const int64_t leader = shares.leader(i);
            const Accumulators sums(weights, Member(shares, i, &barrier), shares.block(), room);
            const Place place(job, shares.block(), job.depth + 1, 0, sums,
                              places ? places + leader : nullptr, i == leader, room);
            if (places) new (places + i) Place(place);
        }
    }
    void run() {
        weights.pack_parameters();
        const int64_t threads = few(job) ? 1 : job.threads;
        Pool::run(threads, weights.blocks, [](void* pass, int64_t i) {
            static_cast<ForwardPass*>(pass)->weights.pack(i); }, this);
        Pool::run(shares.count(), shares.count(), [](void* pass, int64_t i) {
            static_cast<ForwardPass*>(pass)->share(i); }, this, shares.by_units > 1);
    }
    void share(int64_t index) {
        Place& place = places[index];
        const Member member(shares, index, &barrier);
        const Step step = step_of(job, member, weights.parameters, nullptr);
        const int64_t end = shares.last_row(index);
        for (int64_t b = shares.first_row(index); b < end; b += shares.block()) {
            Walk& walk = place.walk;
            walk.first = b;
            walk.last = std::min(b + shares.block(), end);
            place.own(job.depth + 1, false);
            place.kept();
            for (int64_t s = 0; s < segments(job); s++) {
                enter(job, walk, s, place.entry);
                forward_segment(walk, step, member, place.sums, true);
                if (s + 1 == segments(job) || !job.snapshots) continue;
                if (member.leads()) snapshot(walk, s + 1);
                member.wait();
            }
        }
    }
    // The state after the walk's segment; a reset hides what it hides when the state is read.
    void snapshot(Walk& walk, int64_t segment) {
        const int64_t H = job.hidden, fields = job.depth + job.memories, t = walk.end;
        for (int64_t b = walk.first; b < walk.last; b++) {
            if (t >= walk.length(b)) continue;
            real* to = job.snapshots + (segment * fields * job.batch + b) * H;
            const auto put = [&](int64_t i, const real* from) {
                std::copy_n(from, H, to + i * job.batch * H);
            };
            put(0, walk.past(t, b, 1, t + job.depth));
            for (int64_t m = 0; m < job.memories; m++) put(1 + m, walk.memory(t, b, m, 1));
            for (int64_t d = 2; d <= job.depth; d++)
                put(job.memories + d - 1, walk.past(t, b, d, t + job.depth));
        }
    }
};

struct BackwardPass {
    const Job& job;
    Room room;
    Shares shares;
    Barrier barrier;
    BackwardWeights weights;
    ForwardWeights replay;  // for segments that are run again, and for the unit parameters
    Place* places;
    Carry* carries;
    Gradients* gradients;
    int64_t* present;  // for each step

    explicit BackwardPass(const Job& job)
        : job(job), room(job.workspace), shares(job), barrier(shares.by_units, room),
          weights(job, shares, room), replay(job, shares, room) {
        places = room.take<Place>(shares.count());
        carries = room.take<Carry>(shares.count());
        gradients = room.take<Gradients>(shares.by_rows);
        present = room.take<int64_t>(job.time);
        if (present) find_present(job, present);
        const int64_t steps = job.segment ? std::min(job.segment, job.time) : 0;
        for (int64_t i = 0; i < shares.count(); i++) {
            const int64_t leader = shares.leader(i);
            const int64_t replayed = job.segment ? shares.block() : 0;
            const Accumulators sums(replay, Member(shares, i, &barrier), replayed, room);
            const Place place(job, shares.block(), steps, steps, sums,
                              places ? places + leader : nullptr, i == leader, room);
            const Carry carry(job, shares.block(), carries ? carries + leader : nullptr,
                              i == leader, room);
            if (!places) continue;
            new (places + i) Place(place);
            new (carries + i) Carry(carry);
        }
        for (int64_t i = 0; i < shares.by_rows; i++) {
            const Gradients gradient(job, room);
            if (gradients) new (gradients + i) Gradients(gradient);
        }
    }
    void run() {
        const int64_t threads = few(job) ? 1 : job.threads;
        replay.pack_parameters();
        Pool::run(threads, job.segment ? replay.blocks : 0, [](void* pass, int64_t i) {
            static_cast<BackwardPass*>(pass)->replay.pack(i); }, this);
        Pool::run(threads, few_gradients(job) ? 0 : job.accumulators, [](void* pass, int64_t i) {
            static_cast<BackwardPass*>(pass)->weights.pack(i); }, this);
        Pool::run(shares.count(), shares.count(), [](void* pass, int64_t i) {
            static_cast<BackwardPass*>(pass)->share(i); }, this, shares.by_units > 1);
        Pool::run(threads, job.gates, [](void* pass, int64_t i) {
            auto self = static_cast<BackwardPass*>(pass);
            gather_gradients(self->job, self->gradients, self->shares.by_rows, *self->carries, i);
        }, this);
    }
    void share(int64_t index) {
        Place& place = places[index];
        Carry& carry = carries[index];
        Walk& walk = place.walk;
        const Member member(shares, index, &barrier);
        const Gradients& own = gradients[index / shares.by_units];
        const Step step = step_of(job, member, replay.parameters, own.parameters);
        const int64_t end = shares.last_row(index);
        for (int64_t b = shares.first_row(index); b < end; b += shares.block()) {
            walk.first = b;
            walk.last = std::min(b + shares.block(), end);
            if (member.leads()) carry.clear(job, walk.rows());
            member.wait();
            BackwardBlock block(walk, weights, own, member, carry, present);
            for (int64_t s = segments(job) - 1; s >= 0; s--) {
                if (job.segment) place.own(std::min(job.segment, job.time), true);
                else place.kept();
                enter(job, walk, s, place.entry);
                if (job.segment)
                    forward_segment(walk, step, member, place.sums, false);
                const SubnormalsAreZero here;
                block.segment(step);
            }
            const SubnormalsAreZero here;
            if (member.leads()) block.finish();
            member.wait();
        }
    }
};

}  // namespace
}  // namespace throughtime

using throughtime::Job;

extern "C" int64_t job_size() { return sizeof(Job); }

// Bytes of workspace that a pass needs; -1 where something of the call does not fit.
extern "C" int64_t forward_workspace(const Job* job) {
    if (throughtime::misfit(*job, false)) return -1;
    Job empty = *job;
    empty.workspace = {nullptr, 0};
    return throughtime::ForwardPass(empty).room.size();
}
extern "C" int64_t backward_workspace(const Job* job) {
    if (throughtime::misfit(*job, true)) return -1;
    Job empty = *job;
    empty.workspace = {nullptr, 0};
    return throughtime::BackwardPass(empty).room.size();
}

// Whether `count` threads, the caller's included, can run at once.
extern "C" int64_t reserve_threads(int64_t count) { return throughtime::Pool::reserve(count - 1); }

// The name of what does not fit, and nothing is done then; null where the pass has run.
extern "C" const char* run_forward(const Job* job) {
    if (const char* wrong = throughtime::misfit(*job, false)) return wrong;
    if (job->workspace.size < forward_workspace(job)) return "workspace";
    throughtime::ForwardPass pass(*job);
    pass.run();
    pass.room.leave();
    return nullptr;
}
extern "C" const char* run_backward(const Job* job) {
    if (const char* wrong = throughtime::misfit(*job, true)) return wrong;
    if (job->workspace.size < backward_workspace(job)) return "workspace";
    throughtime::BackwardPass pass(*job);
    pass.run();
    pass.room.leave();
    return nullptr;
}
