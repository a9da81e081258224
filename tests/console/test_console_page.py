"""The console in a real browser: it asks nobody else, moves under load, shows sessions as clients see them, and is for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders.looking import MARKED, PHONE, Seen
from builders.served import Running
from statewise.client import Client
from statewise.reading import gates
from statewise.repository import TRACE_FILE

Look = Callable[..., Seen]
PAGES = {"Overview": "#/", "Models": "#/models/demand/1", "Playground": "#/playground/demand/1"}
SERIES = {
    "demand": "time,demand\n" + "".join(f"2000-08-21T{hour:02}:00:00,{90 + 3 * hour}\n" for hour in range(24)),
    "label": "left,right\n" + "".join(f"{at / 10},{'' if at % 4 == 0 else -at / 5}\n" for at in range(20)),
    "plain": "x_0,x_1\n" + "".join(f"{at / 10},{-at / 5}\n" for at in range(20)),
    "text": "abc cab bac\ncab".replace("\n", " "),
}
OPEN = "async (count) => (await (await fetch('api/overview')).json()).capacity.sessions.used === count"
"""Whether the server has so many sessions."""


def put(seen: Seen, model: str) -> None:
    """Gives a page the series of a model, as a person pastes it."""
    if model != "text":
        seen.page.get_by_text("As CSV: paste or edit").click()
    seen.page.get_by_role("textbox", name="Text for the model" if model == "text" else "The series as CSV").fill(SERIES[model])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_load_without_errors_and_ask_nobody_else(look: Look, scheme: str) -> None:
    """Each is in the colours that the person prefers, and no wider than the window; `look` holds the rest."""
    seen = look(color_scheme=scheme)
    red = seen.page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (red > 200) == (scheme == "light")
    for heading, path in PAGES.items():
        seen.turn(path, heading)
        seen.page.get_by_text("demand@1").first.wait_for(state="attached")
        assert seen.too_wide() <= 0
        seen.keep(f"{heading.lower()}-{scheme}")


def test_a_phone_needs_no_sideways_scrolling(look: Look) -> None:
    """Every page fits, also while a session is played."""
    seen = look(viewport=PHONE, is_mobile=True, has_touch=True)
    for heading, path in PAGES.items():
        seen.turn(path, heading)
        seen.page.get_by_text("demand@1").first.wait_for(state="attached")
        if heading == "Playground":
            seen.play()
        assert seen.too_wide() <= 0
        seen.keep(f"{heading.lower()}-phone")


def test_the_charts_move_under_load(look: Look, console: Running) -> None:
    """Steps of a client show as throughput, latency and batches within seconds; what was refused is listed with its reason."""
    seen = look()
    before = {name: line(seen, name) for name in ("Throughput", "Latency, p99", "Batch fill", "Sessions")}
    with Client(console.address) as client, client.open_session("text") as session:
        for _ in session.steps([0, 1, 2] * 200):
            pass
        seen.page.wait_for_function(
            "name => Number(document.querySelector(`[data-chart='${name}'] .value`).firstChild.data) >= 1", arg="Sessions"
        )
        for name in before:
            seen.page.wait_for_function(
                "([name, before]) => document.querySelector(`[data-chart='${name}'] .line`).getAttribute('d') !== before",
                arg=[name, before[name]],
            )
        seen.keep("overview-load")
    assert "L" in line(seen, "Throughput")


def line(seen: Seen, chart: str) -> str:
    """Returns the line of a chart as it is drawn."""
    return str(seen.page.locator(f"[data-chart='{chart}'] .line").get_attribute("d") or "")


@pytest.mark.parametrize("model", SERIES)
def test_the_playground_plays_to_the_clients_numbers(look: Look, console: Running, console_repository: Path, model: str) -> None:
    """A session of each task, and of none, gives to the bit what a client gets for the same timesteps.

    The state that is shown is the one that the explicit-gate graph says the session has.
    """
    seen = look(f"#/playground/{model}/1")
    put(seen, model)
    seen.play()
    shown = seen.numbers()
    inputs = {name: columns(shown, f"input.{name}.") for name in {key.split(".")[1] for key in shown if key.startswith("input.")}}
    with Client(console.address) as client, client.open_session(model) as session:
        fed = {tensor.name: cast(inputs[tensor.name], tensor) for tensor in session.model.inputs}
        expected = np.array(
            [session.step(**{name: array[at] for name, array in fed.items()}) for at in range(len(shown["position"]))]
        )
        output = session.model.outputs[0].name
    assert shown["position"].tolist() == list(range(1, len(expected) + 1))
    assert np.array_equal(columns(shown, f"output.{output}."), expected.astype(np.float64))
    trace = console_repository / ("label" if model == "plain" else model) / "1" / TRACE_FILE
    states = gates.opened(trace).read(fed, {})
    assert np.abs(columns(shown, "state.hidden_0.") - states["hidden_0"]).max() <= 1e-6
    for name in [] if model == "plain" else states.keys() & {"f_0", "update_0", "candidate_0"}:
        assert np.array_equal(columns(shown, f"gate.{name}."), states[name].astype(np.float64))


def columns(shown: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    """Returns the columns that begin so, `[timesteps, …]`."""
    return np.stack([values for name, values in shown.items() if name.startswith(prefix)], axis=1)


def cast(values: np.ndarray, tensor: object) -> np.ndarray:
    """Returns the values of an input as the model takes them."""
    return values.astype(tensor.dtype).reshape(len(values), *tensor.shape)


def test_the_session_ends_with_the_page(look: Look) -> None:
    """Leaving the playground closes the session that it had opened."""
    seen = look("#/playground/text/1")
    seen.page.get_by_role("button", name="Step", exact=True).click()
    seen.page.get_by_text("Timestep 1").wait_for()
    seen.page.wait_for_function(OPEN, arg=1)  # those of pages before this one may be about to end
    seen.page.get_by_role("link", name="Overview").click()
    seen.page.wait_for_function(OPEN, arg=0)


def test_a_series_is_drawn_by_hand(look: Look) -> None:
    """What a pointer draws becomes the series that is played; drawing again starts anew."""
    seen = look("#/playground/demand/1")
    table = seen.page.get_by_role("textbox", name="The series as CSV", include_hidden=True)
    box = seen.page.locator("canvas.pencil").bounding_box()
    seen.page.mouse.move(box["x"] + 10, box["y"] + 20)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] - 20, steps=12)
    seen.page.mouse.up()
    drawn = [float(row.split(",")[1]) for row in table.input_value().splitlines()[1:]]
    assert len(drawn) == 96
    assert np.all(np.diff(drawn[2:-2]) < 0), "a line from the upper left to the lower right, without a gap"
    seen.play()
    assert np.allclose(columns(seen.numbers(), "input.x.")[:, 0], drawn, rtol=1e-6)


def test_what_cannot_be_read_is_said_with_its_row(look: Look) -> None:
    """A bad cell ends in one line beside the tracks, and no session is left."""
    seen = look("#/playground/demand/1")
    seen.page.get_by_text("As CSV: paste or edit").click()
    seen.page.get_by_role("textbox", name="The series as CSV").fill("time,demand\n2000-08-21T00:00:00,much\n")
    seen.page.get_by_role("button", name="Play", exact=True).click()
    seen.page.get_by_role("alert").get_by_text("row 2, column demand: 'much' is not a number").wait_for()


def test_names_are_words_never_markup(look: Look) -> None:
    """Features, labels, facts and reasons that look like HTML are shown letter by letter, on every page."""
    seen = look("#/models/marked/1")
    seen.page.get_by_text(MARKED).first.wait_for()
    seen.page.get_by_text("<script>document.title = 2</script>").first.wait_for()
    seen.page.get_by_role("link", name="Play with it").click()
    seen.play()
    seen.page.get_by_role("list").get_by_text("<script>document.title = 2</script>").first.wait_for()
    seen.page.get_by_role("link", name="Models").click()
    seen.page.get_by_role("link", name="refused").click()
    seen.page.get_by_text(f"{MARKED}: is not known").wait_for()
    assert seen.page.locator("main img, main script, main b").count() == 0
    assert seen.page.title() == "Models · Statewise"


def test_a_report_is_shown_and_can_do_nothing(look: Look) -> None:
    """The page that training wrote stands in a frame; a script in it would be a stranger's, and does not run."""
    seen = look()
    with seen.page.expect_console_message(lambda message: "Blocked script execution" in message.text):
        seen.turn("#/models/label/1", "Models")
        seen.page.locator("iframe").scroll_into_view_if_needed()
    seen.page.frame_locator("iframe").get_by_text("The report of label").wait_for()
    assert ["Blocked script execution" in words for words in seen.complaints] == [True]
    seen.complaints.clear()


def test_everything_is_reached_by_the_keyboard(look: Look) -> None:
    """Tab goes through all that can be done, and what is pressed happens: a series is shaped and played without a pointer."""
    seen = look("#/playground/demand/1")
    seen.page.get_by_text("units that act alike").wait_for()
    names = []
    for _ in range(24):
        seen.page.keyboard.press("Tab")
        names.append(seen.page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent.trim() || 'body'"))
        if names[-1] == "Play":
            break
    wanted = {
        "Skip to the content",
        "Overview",
        "Models",
        "Playground",
        "Model",
        "wave",
        "flat",
        "Open a file…",
        "As CSV: paste or edit",
    }
    assert wanted <= set(names)
    seen.page.keyboard.press("Enter")
    seen.page.get_by_role("button", name="Pause").wait_for()
    for _ in range(3):
        seen.page.keyboard.press("Tab")
    for _ in range(4):
        seen.page.keyboard.press("ArrowRight")
    seen.page.get_by_role("button", name="Play again").wait_for()
    seen.page.get_by_label("Timestep that is looked at").focus()
    seen.page.keyboard.press("ArrowLeft")
    seen.page.get_by_role("heading", name="Timestep 95").wait_for()
