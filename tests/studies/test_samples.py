"""Outputs of trained runs: what is written, read back and shown."""

import base64
from pathlib import Path
from typing import Any

import pytest
import torch

from throughtime.core.errors import RunError
from throughtime.models import build_model
from throughtime.reports.page import render_report
from throughtime.reports.read import read_comparison, read_run
from throughtime.results.atomic import read_json, write_json
from throughtime.studies import CompareRequest, compare
from throughtime.studies.samples import completed, samples, write_samples
from throughtime.tasks import TASKS
from throughtime.tasks.dialogues import DialogueTask
from throughtime.tasks.kinds import Likelihood, Pixels
from throughtime.tasks.stories import plain


def test_the_attention_is_that_of_the_models_own_output() -> None:
    task = TASKS.build("reverse:longest=6")
    torch.manual_seed(0)
    model = build_model("attention:cell=gru,hidden=8", task.inputs, task.answers).eval()
    found = samples(model, task)
    assert found is not None
    assert len(found.attention) == 2
    for text, attention in zip(found.texts, found.attention, strict=False):
        assert " ".join(attention.source) == text.source
        assert list(attention.target[:-1]) == text.output.split()
        assert text.reference.split() == text.source.split()[::-1]
        for row in attention.weights:
            assert len(row) == len(attention.source)
            assert sum(row) == pytest.approx(1, abs=1e-5)


def test_a_number_is_shown_by_its_digits() -> None:
    task = TASKS.build("spelling:digits=2")
    found = samples(build_model("gru:hidden=4", task.inputs, task.answers).eval(), task)
    assert found is not None
    for text in found.texts:
        assert text.source.isdigit()
        assert len(text.source) == 2
    assert found.attention == ()


def test_a_reply_stands_beside_its_dialogue_and_the_true_reply() -> None:
    task = TASKS.build("counting-dialogue:turns=3")
    model = build_model("vhred:cell=gru,hidden=4", task.inputs, task.answers).eval()
    found = samples(model, task)
    assert found is not None
    assert len(found.texts) == 4
    assert isinstance(task, DialogueTask)
    for text, dialogue in zip(found.texts, task.spoken("validation"), strict=False):
        assert text.source == f"{dialogue[0]} \u2192 {dialogue[1]}"
        assert text.reference == dialogue[2]
    assert found == samples(model, task)


def test_images_are_drawn_and_completed_where_the_ordering_allows() -> None:
    task = TASKS.build("thresholded-digits")
    model = build_model("nade:hidden=4", task.inputs, task.answers).eval()
    found = samples(model, task)
    assert found is not None
    assert [image.title.split()[0] for image in found.images] == ["draws", "a"]
    for image in found.images:
        assert base64.b64decode(image.png)[:4] == b"\x89PNG"
    assert found == samples(model, task)
    shuffled = build_model("fvsbn:orderings=1", task.inputs, task.answers).eval()
    found = samples(shuffled, task)
    assert found is not None
    assert [image.title for image in found.images] == ["draws"]


@pytest.mark.parametrize(
    ("task", "model", "drawn"),
    [
        ("polygons", "vrnn:cell=gru,hidden=4,engine=eager,latent=2,features=4", "16 drawings"),
        ("chords", "rnn-nade:cell=gru,hidden=4,units=3", "piano rolls of 4 pieces"),
        ("linear-gaussian", "gru:hidden=4", "4 sequences"),
    ],
)
def test_frames_are_drawn_as_suits_them(task: str, model: str, drawn: str) -> None:
    built = TASKS.build(f"{task}:samples=1")
    made = build_model(model, built.inputs, built.answers).eval()
    found = samples(made, built)
    assert found is not None
    (one,) = found.drawings
    assert f"<title>{drawn}</title>" in one.svg
    assert found == samples(made, built)


def test_frames_that_are_no_numbers_are_not_drawn() -> None:
    task = TASKS.build("linear-gaussian:samples=1")
    model = build_model("gru:hidden=4", task.inputs, task.answers).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.inf)
    found = samples(model, task)
    assert found is not None
    assert found.drawings == ()


def test_completions_of_a_vector_begin_with_its_left_half() -> None:
    model = build_model("fvsbn", Pixels(1, 5), Likelihood())
    x = torch.tensor([1, 0, 1, 1, 0]).view(1, 1, 1, 5)
    shown, log_prob = completed(model, x, torch.Generator().manual_seed(0))
    assert shown.shape == (1, 2 + 8, 1, 1, 5)
    assert torch.equal(shown[0, 0], x[0])
    assert shown[0, 1].flatten().tolist() == [1, 0, 1, -1, -1]
    assert torch.equal(shown[0, 2:, 0, 0, :3], x[0, 0, 0, :3].expand(8, 3))
    torch.testing.assert_close(log_prob, torch.full((1, 8), 0.25).log())  # all weights are 0


def test_a_classifier_has_none() -> None:
    task = TASKS.build("digits")
    model = build_model("gru:hidden=4", task.inputs, task.answers).eval()
    assert samples(model, task) is None


def test_a_report_shows_outputs_as_text(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("<b>to be</b> or not to be\n" * 90, encoding="utf-8")
    spec = f"text:length=8,file={file}"
    folder = tmp_path / "out"
    compare(CompareRequest(spec, ("gru:hidden=4",), seeds=1, steps=2, jobs=1), folder)
    (run,) = (run for run in folder.glob("gru*/seed-0"))
    first = read_json(run / "samples.json")
    assert first["step"] == 2
    page = render_report(read_comparison(folder))
    assert "Outputs of the trained models" in page
    assert "<b>" not in page.split('id="outputs"')[1].split("</section>")[0]
    assert 'class="drawing"' not in page
    write_json(run / "samples.json", {**first, "texts": 3})
    with pytest.raises(RunError, match="samples"):
        read_run(run)
    write_json(run / "samples.json", {**first, "step": 1})
    write_samples(run)
    assert read_json(run / "samples.json") == first


def test_a_report_shows_drawings_as_pictures(tmp_path: Path) -> None:
    request = CompareRequest(
        "linear-gaussian:samples=1", ("gru:hidden=4",), seeds=1, steps=2, jobs=1
    )
    compare(request, tmp_path)
    (file,) = tmp_path.glob("gru*/seed-0/samples.json")
    document = read_json(file)
    svg = base64.b64encode(document["drawings"][0]["svg"].encode()).decode()
    picture = f'class="drawing" src="data:image/svg+xml;base64,{svg}"'
    assert picture in render_report(read_comparison(tmp_path))
    del document["drawings"]  # as earlier versions wrote it
    write_json(file, document)
    assert picture not in render_report(read_comparison(tmp_path))


def test_answers_about_stories_have_the_attention_of_each_hop(tmp_path: Path) -> None:
    task = TASKS.build("questions:kind=two-facts,questions=20")
    torch.manual_seed(0)
    model = build_model("memn2n:hidden=4,hops=2", task.inputs, task.answers).eval()
    found = samples(model, task)
    assert found is not None
    assert len(found.texts) == 4
    for text, story in zip(found.texts, task.stories["validation"], strict=False):
        told = [plain(line.text) for line in story if not line.answer]
        assert text.source == ". ".join([*told, plain(story[-1].text) + "?"])
        assert text.reference == story[-1].answer
    first, second = found.attention
    assert first.target == ("hop 1", "hop 2")
    assert first.question == f"{plain(task.stories['validation'][0][-1].text)}?"
    assert ". ".join([*first.source, first.question]) == found.texts[0].source
    for row in (*first.weights, *second.weights):
        assert len(row) <= 24
        assert sum(row) == pytest.approx(1, abs=1e-5)
    reader = build_model("gru:hidden=4", task.inputs, task.answers).eval()
    shown = samples(reader, task)
    assert shown is not None
    assert shown.attention == ()
    assert [text.source for text in shown.texts] == [text.source for text in found.texts]


def test_the_report_of_a_memory_network_has_its_hops(tmp_path: Path) -> None:
    request = CompareRequest(
        "questions:questions=20", ("memn2n:hidden=4",), seeds=1, steps=1, jobs=1
    )
    page = render_report(compare(request, tmp_path))
    assert "of 3 hops read one sentence with more than half of the attention" in page


@pytest.mark.parametrize("name", ["ntm", "sam"])
def test_the_accesses_of_a_memory_are_those_of_one_sequence(name: str) -> None:
    task = TASKS.build("copy-bits:bits=3,largest=4")
    torch.manual_seed(0)
    model = build_model(f"{name}:hidden=6,words=8,width=4", task.inputs, task.answers).eval()
    found = samples(model, task)
    assert found is not None
    (memory,) = found.memories
    batch: Any = next(task.batches("validation", 1))
    assert len(memory.read) == len(memory.written) == int(batch.lengths[0])
    assert {len(row) for row in memory.read + memory.written} == {8}
    if name == "ntm":  # with one head, whose weights sum to 1
        assert all(sum(row) == pytest.approx(1, abs=0.01) for row in memory.read)


def test_a_memory_of_many_words_or_that_diverged_has_no_picture() -> None:
    task = TASKS.build("copy-bits:bits=3,largest=4")
    many = build_model("sam:hidden=6,words=1025,width=4", task.inputs, task.answers)
    assert samples(many, task) is None
    lost = build_model("ntm:hidden=6,words=8,width=4", task.inputs, task.answers)
    with torch.no_grad():
        next(lost.parameters()).fill_(torch.nan)
    assert samples(lost, task) is None


def test_a_report_shows_reads_and_writes(tmp_path: Path) -> None:
    model = "ntm:hidden=4,words=6,width=3"
    request = CompareRequest("copy-bits:bits=2,largest=2", (model,), seeds=1, steps=2, jobs=1)
    compare(request, tmp_path)
    (file,) = tmp_path.glob("ntm*/seed-0/samples.json")
    page = render_report(read_comparison(tmp_path))
    assert "One word is read with" in page
    assert "One word is written with" in page
    document = read_json(file)
    del document["memories"]  # as earlier versions wrote it
    write_json(file, document)
    assert "One word is read with" not in render_report(read_comparison(tmp_path))
