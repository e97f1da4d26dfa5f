// Runs one saved call of the engine without Python, so that sanitizers see all of it:
//
//     driver forward|backward CELL CASE RESULT
//
// CELL is the number of a cell in cell.cpp. A case is a Job field by field: its numbers, then what each pointer points to. The result is the
// same after the call. Every array has memory of its own and of its exact size.
#include "sequence.cpp"

#include "cell.cpp"

#include <cstdio>
#include <cstdlib>
#include <vector>

static int64_t read_number(FILE* file) {
    int64_t value;
    if (fread(&value, sizeof value, 1, file) != 1) abort();
    return value;
}

// -1: null; -2: a list of arrays, its length and each of them; otherwise bytes and contents.
struct Field {
    int64_t size;
    void* memory = nullptr;
    std::vector<Field> list;
    std::vector<int64_t> pairs;  // of an address and a number of values each

    int64_t bytes() const { return size == -2 ? 8 * int64_t(pairs.size()) : size < 0 ? 0 : size; }

    void read(FILE* file) {
        size = read_number(file);
        if (size == -2) {
            list.resize(size_t(read_number(file)));
            for (Field& field : list) field.read(file);
            for (Field& field : list) {
                pairs.push_back(reinterpret_cast<int64_t>(field.memory));
                pairs.push_back(field.bytes());
            }
            memory = pairs.data();
        } else if (size >= 0) {
            memory = malloc(size_t(size));
            if (size && fread(memory, 1, size_t(size), file) != size_t(size)) abort();
        }
    }
    void write(FILE* file) const {
        for (const Field& field : list) field.write(file);
        if (size > 0) fwrite(memory, 1, size_t(size), file);
    }
    void release() {
        for (Field& field : list) field.release();
        if (size >= 0) free(memory);
    }
};

int main(int, char** words) {
    const bool backward = words[1][0] == 'b';
    FILE* file = fopen(words[3], "rb");
    const size_t count = sizeof(Job) / 8, numbers = size_t(read_number(file));
    std::vector<int64_t> slots(count);
    for (size_t i = 0; i < numbers; i++) slots[i] = read_number(file);
    const size_t first = numbers + 3;  // after the cell's functions
    std::vector<Field> fields((count - first) / 2);
    for (size_t i = 0; i < fields.size(); i++) {
        fields[i].read(file);
        slots[first + 2 * i] = reinterpret_cast<int64_t>(fields[i].memory);
        slots[first + 2 * i + 1] = fields[i].bytes();
    }
    fclose(file);
    Job job;
    memcpy(&job, slots.data(), sizeof job);
    const int cell = atoi(words[2]);
    job.forward = FORWARDS[cell];
    job.inference = INFERENCES[cell];
    job.backward = BACKWARDS[cell];
    const int64_t size = backward ? backward_workspace(&job) : forward_workspace(&job);
    if (size < 0) return 1;
    job.workspace = {static_cast<char*>(aligned_alloc(64, size_t(size + 63) / 64 * 64)), size};
    memset(job.workspace.at, 0xff, size_t(size));  // NaN
    if (const char* wrong = (backward ? run_backward : run_forward)(&job)) {
        fprintf(stderr, "%s does not fit\n", wrong);
        return 1;
    }
    free(job.workspace.at);
    file = fopen(words[4], "wb");
    for (const Field& field : fields) field.write(file);
    fclose(file);
    for (Field& field : fields) field.release();
    return 0;
}
