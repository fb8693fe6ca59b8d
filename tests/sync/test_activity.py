"""Two accounts of a day beside each other: each difference has causes, and they add up to it."""

from hypothesis import given
from hypothesis import strategies as st

from streams.sync.activity import NONE, Activity, Figures, compare, missing
from streams.sync.interface import Day

DAYS = ("2026-11-17", "2026-11-18", "2026-11-19")

amounts = st.integers(0, 12)
models = st.sampled_from(["a/x", "a/x-2026", "a/x:free", "b/y"])
providers = st.sampled_from(["P", "p", "Q", ""])
their_rows = st.builds(
    Activity,
    day=st.sampled_from(DAYS),
    model=st.sampled_from(["a/x", "a/x:free", "b/y"]),
    permaslug=st.sampled_from(["a/x-2026", "b/y", ""]),
    provider=providers,
    requests=amounts,
    prompt_tokens=amounts,
    completion_tokens=amounts,
    reasoning_tokens=amounts,
    cost_nano=st.integers(0, 90),
    upstream_cost_nano=st.integers(0, 90),
)
our_rows = st.builds(
    Day,
    day=st.sampled_from(DAYS),
    model=models,
    provider=providers,
    requests=amounts,
    prompt_tokens=amounts,
    completion_tokens=amounts,
    reasoning_tokens=amounts,
    cost_nano=st.integers(0, 90),
    upstream_cost_nano=st.integers(0, 90),
    unpriced_requests=st.integers(0, 3),
    awaited_requests=st.integers(0, 3),
)


def figures(row) -> Figures:
    return Figures(*(getattr(row, name) for name in Figures.__struct_fields__))


def total(parts) -> Figures:
    return sum(parts, NONE)


@given(st.lists(their_rows, max_size=6), st.lists(our_rows, max_size=6))
def test_causes_add_up(theirs, ours):
    """In each figure of each row, the causes come to the difference; all rows to both accounts."""
    rows = compare(theirs, ours)
    for row in rows:
        assert total(row.causes.values()) == row.difference == row.theirs - row.ours
        assert all(part != NONE for part in row.causes.values())
    assert total(row.theirs for row in rows) == total(map(figures, theirs))
    assert total(row.ours for row in rows) == total(map(figures, ours))
    assert total(row.causes.get("day_boundary", NONE) for row in rows) == NONE
    assert len({(row.day, row.model, row.provider) for row in rows}) == len(rows)
    assert missing(rows) >= 0


def there(day=DAYS[1], model="a/x", permaslug="a/x-2026", provider="P", requests=4, cost_nano=400, **more):
    return Activity(
        day, model, permaslug, provider, requests, 40, 20, 5, cost_nano, **{"upstream_cost_nano": 0, **more}
    )


def here(day=DAYS[1], model="a/x", provider="P", requests=4, cost_nano=400, unpriced=0, awaited=0, tokens=40):
    return Day(day, model, provider, requests, tokens, tokens // 2, 5, cost_nano, 0, unpriced, awaited)


def causes(theirs, ours):
    return [row.causes for row in compare(theirs, ours)]


def test_equal_accounts_have_no_residue():
    """Endpoints are added up, and what is equal differs by nothing."""
    twice = here(requests=8, cost_nano=800, tokens=80)
    rows = compare([there(), there()], [Day(*(*_plain(twice)[:6], 10, *_plain(twice)[7:]))])
    assert [row.differs for row in rows] == [False]


def _plain(day: Day):
    return [getattr(day, name) for name in Day.__struct_fields__]


def test_missing_here_and_there():
    """Requests that one side has more of are missing on the other, with their figures."""
    (row,) = compare([there(requests=4)], [here(requests=1, cost_nano=100, tokens=10)])
    assert row.causes == {"missing_here": Figures(3, 30, 15, 0, 300)}
    assert missing([row]) == 3
    (row,) = compare([there(requests=1, cost_nano=100)], [here()])
    assert row.causes == {"missing_there": Figures(-3, cost_nano=-300)}
    assert causes([], [here()]) == [{"missing_there": Figures(-4, -40, -20, -5, -400)}]


def test_unpriced():
    """The cost of requests without one is unpriced; beside missing ones it is shared out by number."""
    assert causes([there()], [here(cost_nano=100, unpriced=3)]) == [{"unpriced": Figures(cost_nano=300)}]
    (found,) = causes([there()], [here(requests=3, cost_nano=100, unpriced=2)])
    assert found == {"unpriced": Figures(cost_nano=200), "missing_here": Figures(1, cost_nano=100)}


def test_amended_later():
    """Other figures are still to come where some are not read back, and unexplained where all are."""
    for awaited, cause in ((1, "amended_later"), (0, "unexplained")):
        assert causes([there()], [here(cost_nano=350, awaited=awaited)]) == [{cause: Figures(cost_nano=50)}]


def test_rounding():
    """Less than a nano-dollar for each request is the rounding of a sum, and no difference."""
    (row,) = compare([there(cost_nano=402)], [here()])
    assert row.causes == {"rounding": Figures(cost_nano=2)}
    assert not row.differs
    (row,) = compare([there(cost_nano=405)], [here()])
    assert row.differs


def test_day_boundary():
    """What is short on one day and over on the next is the same call, dated on the other side of midnight."""
    theirs = [there(DAYS[0], requests=3, cost_nano=300), there(DAYS[1], requests=5, cost_nano=500)]
    ours = [here(DAYS[0]), here(DAYS[1])]
    moved = Figures(1, cost_nano=100)
    assert causes(theirs, ours) == [{"day_boundary": NONE - moved}, {"day_boundary": moved}]
    # Of another model, or two days apart, it is not.
    apart = [there(DAYS[0], requests=3), there(DAYS[2], requests=5)], [here(DAYS[0]), here(DAYS[2])]
    other = (
        [there(DAYS[0], requests=3), there(DAYS[1], "b/y", "", requests=5)],
        [here(DAYS[0]), here(DAYS[1], "b/y")],
    )
    for theirs, ours in (apart, other):
        assert not any("day_boundary" in found for found in causes(theirs, ours))


def test_other_figures_on_two_days_are_no_boundary():
    """Where no request is short, a day has nothing to give to its neighbour."""
    theirs = [there(DAYS[0], cost_nano=500), there(DAYS[1], cost_nano=300)]
    found = causes(theirs, [here(DAYS[0]), here(DAYS[1])])
    assert found == [{"unexplained": Figures(cost_nano=100)}, {"unexplained": Figures(cost_nano=-100)}]


def test_today_gives_nothing_to_yesterday():
    """The day that is not over is told of by nobody: what is short before it is missing."""
    rows = compare([there(DAYS[1])], [here(DAYS[1], requests=3), here(DAYS[2])])
    assert missing(rows) == 1


def test_names():
    """A model is known by its name, its permaslug or without its variant; a provider in any case."""
    theirs = [
        there(),
        there(model="b/y:free", permaslug="b/y-1"),
        there(model="b/z", permaslug="b/z", provider="Q"),
    ]
    for model, provider, wanted in (
        ("a/x", "p", ("a/x", "P")),
        ("a/x-2026", "", ("a/x", "P")),
        ("b/y", "P", ("b/y:free", "P")),
        ("b/y-1:nitro", "P", ("b/y:free", "P")),
        ("b/z", "R", ("b/z", "R")),
        ("c/c", "", ("c/c", "")),
    ):
        rows = compare(theirs, [here(model=model, provider=provider)])
        assert [(row.model, row.provider) for row in rows if row.ours] == [wanted]


def test_a_name_that_could_be_two():
    """Where a name could stand for two models it stands for itself."""
    theirs = [there(), there(model="a/x:free")]
    rows = compare(theirs, [here(model="a/x:nitro")])
    assert [row.model for row in rows if row.ours] == ["a/x:nitro"]
