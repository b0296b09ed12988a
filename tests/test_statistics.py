import numpy as np
import pytest
from scipy import stats

from hrcam import _bootstrap
from hrcam.statistics import compare, holm, summarize

NAN = np.nan


def random_scores(num_images=120, num_groups=15, seed=0):
    """Scores of two methods with NaN, of patients who differ."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(num_groups, size=num_images)
    level = rng.normal(size=num_groups)[groups]
    high, low = level + 0.1, level + rng.normal(size=num_images) * 0.3
    high[[3, 20]] = NAN
    low[[3, 7]] = NAN
    return high, low, groups


def only(comparisons):
    (comparison,) = comparisons
    return comparison


# ---------------------------------------------------------------------------- summarize


def test_summary_golden():
    reasons = ["", "blank map", "", "blank map", "", "", ""]

    summary = summarize(
        [0.25, NAN, 0.5, NAN, 0.75, 2.0, NAN], list("aabbbcd"), reasons=reasons
    )

    # The fourth NaN has no reason; of groups a b c d, d has no score.
    assert summary.left_out == {"blank map": 2, "undefined": 1}
    assert (summary.images, summary.groups) == (4, 3)
    # Quartiles at places 0.75, 1.5, 2.25 of 0.25 0.5 0.75 2 (places 0 to 3).
    assert (summary.mean, summary.median) == (0.875, 0.625)
    assert (summary.lower_quartile, summary.upper_quartile) == (0.4375, 1.0625)


def test_left_out_without_reasons():
    assert summarize([NAN, 1, NAN]).left_out == {"undefined": 2}
    assert summarize([0.0, 1.0]).left_out == {}


@pytest.mark.parametrize("scores", [[], [NAN, NAN]])
def test_summary_of_no_score(scores):
    summary = summarize(scores)

    assert (summary.images, summary.groups) == (0, 0)
    assert sum(summary.left_out.values()) == len(scores)
    assert np.isnan(summary[3:]).all()


@pytest.mark.parametrize(
    ("confidence", "mean", "median"),
    # Two groups, 0 and 1 1 1. Drawn: the first twice (1 in 4), mean and median 0; both
    # (1 in 2), mean 3/4, median 1; the second twice (1 in 4), 1 and 1.
    [(0.6, (0, 1), (0, 1)), (0.4, (0.75, 0.75), (1, 1))],
)
def test_interval_draws_whole_groups_golden(confidence, mean, median):
    scores, groups = [0, 1, 1, 1], ["a", "b", "b", "b"]

    summary = summarize(scores, groups, confidence=confidence)

    assert (summary.mean_low, summary.mean_high) == mean
    assert (summary.median_low, summary.median_high) == median


def test_interval_replicates_resampling_by_concatenation():
    scores, _, groups = random_scores(30, 7)
    names, numbers = np.unique(groups[~np.isnan(scores)], return_inverse=True)
    defined = scores[~np.isnan(scores)]
    means, medians = [], []
    for row in np.random.default_rng(5).integers(len(names), size=(300, len(names))):
        drawn = np.concatenate([defined[numbers == number] for number in row])
        means.append(np.mean(drawn))
        medians.append(np.median(drawn))

    summary = summarize(scores, groups, confidence=0.9, resamples=300, seed=5)

    np.testing.assert_allclose(
        [summary.mean_low, summary.mean_high], np.quantile(means, (0.05, 0.95))
    )
    np.testing.assert_allclose(
        [summary.median_low, summary.median_high], np.quantile(medians, (0.05, 0.95))
    )


def test_interval_of_ungrouped_images_is_scipys():
    scores = np.random.default_rng(0).normal(size=200)

    summary = summarize(scores, resamples=4000)

    for statistic in ("mean", "median"):
        expected = stats.bootstrap(
            (scores,), getattr(np, statistic), n_resamples=4000, method="percentile"
        ).confidence_interval
        actual = (
            getattr(summary, f"{statistic}_low"),
            getattr(summary, f"{statistic}_high"),
        )
        np.testing.assert_allclose(actual, expected, atol=0.03)  # width is 0.3


def test_interval_covers_the_truth_where_naive_drawing_does_not():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 10)
    covered = {"groups": 0, "images": 0}
    for seed in range(40):
        scores = rng.normal(size=30)[patients] + 0.3 * rng.normal(size=300)
        widths = {}
        for name, groups in {"groups": patients, "images": None}.items():
            s = summarize(scores, groups, resamples=100, seed=seed)
            covered[name] += s.mean_low <= 0 <= s.mean_high
            widths[name] = s.mean_high - s.mean_low
        assert widths["groups"] > 2 * widths["images"]  # sqrt(10) times expected

    assert covered["groups"] >= 34
    assert covered["images"] < 26


def test_equal_scores_have_no_width():
    summary = summarize([0.5] * 6, list("aabbcc"))

    assert summary[3:] == (0.5,) * 8


def test_one_group_has_no_interval():
    summary = summarize([0.25, 0.75], ["a", "a"])

    assert (summary.mean, summary.median, summary.groups) == (0.5, 0.5, 1)
    assert np.isnan(summary[7:]).all()


def test_interval_does_not_depend_on_the_chunks_that_bound_memory(monkeypatch):
    scores, _, groups = random_scores()
    whole = summarize(scores, groups, resamples=101)

    monkeypatch.setattr(_bootstrap, "DRAWN_AT_ONCE", 1000)  # 8 resamples

    assert summarize(scores, groups, resamples=101) == whole


def test_seed_and_confidence():
    scores, _, groups = random_scores()
    summary = summarize(scores, groups)
    wider = summarize(scores, groups, confidence=0.99)

    assert summary == summarize(scores, groups)
    assert summary[7:] != summarize(scores, groups, seed=1)[7:]
    assert wider.mean_low < summary.mean_low < summary.mean
    assert wider.median_low < summary.median_low < summary.median


@pytest.mark.parametrize("grouped", [True, False])
def test_nothing_depends_on_the_order_of_images(grouped):
    high, low, groups = random_scores()
    order = np.random.default_rng(1).permutation(len(high))
    before, after = (groups, groups[order]) if grouped else (None, None)
    scores, shuffled = ({"a": high[o], "b": low[o]} for o in (slice(None), order))

    assert summarize(high, before) == summarize(high[order], after)
    first = compare(scores, "a", before, by_group=grouped)
    assert first == compare(shuffled, "a", after, by_group=grouped)


# ------------------------------------------------------------------------------ compare


def test_t_golden():
    # Differences 1 2 3 2 eighths: mean 2, squares about it 1 0 1 0, so
    # t = 2 / sqrt(2/3 / 4) = sqrt(24). Student's distribution of 3 degrees of freedom
    # holds 2/pi (u / (1 + u^2) + arctan u) within +-t, u = t / sqrt(3) = sqrt(8).
    scores = {"a": [0.5, 0.75, 1, 0.75], "b": [0.375, 0.5, 0.625, 0.5]}

    found = only(compare(scores, "a"))

    within = 2 / np.pi * (np.sqrt(8) / 9 + np.arctan(np.sqrt(8)))
    assert (found.method, found.reference) == ("b", "a")
    assert (found.images, found.left_out, found.groups) == (4, 0, 4)
    assert found.mean_difference == 0.25
    np.testing.assert_allclose((found.t, found.t_p), (np.sqrt(24), 1 - within))


@pytest.mark.parametrize("zeros", [0, 2])
def test_wilcoxon_golden(zeros):
    # Differences +1 -2 +3 +4: the fall has rank 2. Of the 16 ways to give signs to
    # ranks 1 to 4, three have a sum of at most 2 (none, 1, 2); both sides: 6 of 16.
    # Zeros are left out.
    scores = {"a": [1, 0, 3, 4, *[5] * zeros], "b": [0, 2, 0, 0, *[5] * zeros]}

    found = only(compare(scores, "a"))

    assert (found.wilcoxon, found.wilcoxon_p) == (2, 0.375)
    assert found.images == 4 + zeros


def test_tests_are_scipys_on_the_pairs():
    high, low, groups = random_scores()
    both = ~np.isnan(high) & ~np.isnan(low)

    found = only(compare({"high": high, "low": low}, "high", groups))

    assert (found.images, found.left_out) == (117, 3)
    t = stats.ttest_rel(high[both], low[both])
    wilcoxon = stats.wilcoxon(high[both], low[both])
    np.testing.assert_allclose((found.t, found.t_p), (t.statistic, t.pvalue))
    assert (found.wilcoxon, found.wilcoxon_p) == tuple(wilcoxon)
    expected = np.mean(high[both]) - np.mean(low[both])
    np.testing.assert_allclose(found.mean_difference, expected)


def test_interval_of_the_difference_is_that_of_its_summary():
    high, low, groups = random_scores()

    found = only(compare({"high": high, "low": low}, "high", groups, seed=3))
    summary = summarize(high - low, groups, seed=3)

    assert (found.low, found.high) == (summary.mean_low, summary.mean_high)
    assert found.low < found.mean_difference < found.high


def test_by_group_tests_the_means_of_groups():
    high, low, groups = random_scores()
    both = ~np.isnan(high) & ~np.isnan(low)
    means = [
        [values[both & (groups == group)].mean() for group in range(15)]
        for values in (high, low)
    ]

    scores = {"high": high, "low": low}
    found = only(compare(scores, "high", groups, by_group=True))
    by_image = only(compare(scores, "high", groups))

    assert found.groups == 15
    np.testing.assert_allclose((found.t, found.t_p), stats.ttest_rel(*means))
    assert (found.wilcoxon, found.wilcoxon_p) == tuple(stats.wilcoxon(*means))
    # What it does not change: what was compared, and the interval.
    assert found[:8] == by_image[:8]
    assert found.t != by_image.t


def test_false_alarms_stay_at_the_level_by_group_only():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 8)
    alarms = {True: 0, False: 0}
    for _ in range(30):
        noise = rng.normal(size=12)[patients] + 0.2 * rng.normal(size=96)
        scores = {"a": noise, "b": np.zeros(96)}
        for by_group in alarms:
            found = only(compare(scores, "a", patients, by_group=by_group, resamples=1))
            alarms[by_group] += found.t_p < 0.05

    assert alarms[True] <= 4
    assert alarms[False] > 9


def test_swapping_the_methods_turns_the_sign():
    high, low, groups = random_scores()
    scores = {"high": high, "low": low}

    first, second = (only(compare(scores, name, groups)) for name in scores)

    assert (first.method, second.method) == ("low", "high")
    assert first.mean_difference == pytest.approx(-second.mean_difference)
    assert first.t == pytest.approx(-second.t)
    assert (first.t_p, first.wilcoxon_p) == pytest.approx(
        (second.t_p, second.wilcoxon_p)
    )


def test_holm_over_the_methods_of_the_call():
    high, low, _ = random_scores()
    rng = np.random.default_rng(2)
    scores = {
        "near": high + rng.normal(size=120) * 0.1 + 0.02,
        "high": high,
        "same": high,
        "low": low,
        "far": low - 1,
    }

    found = compare(scores, "high")

    assert [c.method for c in found] == ["near", "same", "low", "far"]
    for test in ("t", "wilcoxon"):
        p = [getattr(c, f"{test}_p") for c in found]
        corrected = [getattr(c, f"{test}_p_holm") for c in found]
        np.testing.assert_array_equal(corrected, holm(p))
        np.testing.assert_allclose(corrected[3], 3 * p[3])  # `same` does not count
        assert np.isnan(corrected[1])


@pytest.mark.parametrize(
    ("other", "images"),
    [([0.5, 0.75, 1], 3), ([0.25, NAN, NAN], 1), ([NAN, NAN, NAN], 0)],
    ids=["all differences 0", "one pair", "no pair"],
)
def test_no_test_without_differences_or_pairs(other, images):
    found = only(compare({"a": [0.5, 0.75, 1], "b": other}, "a"))

    assert (found.images, found.left_out) == (images, 3 - images)
    assert np.isnan(found[8:]).all()
    assert np.isnan(found.low) == (images < 2)
    assert np.isnan(found.mean_difference) == (images == 0)


def test_one_group_has_no_test_by_group():
    scores = {"a": [0.5, 0.75, 1], "b": [0, 0.5, 1]}

    found = only(compare(scores, "a", ["p", "p", "p"], by_group=True))

    assert np.isnan((found.low, found.high, found.t_p, found.wilcoxon_p)).all()
    assert found.mean_difference == 0.25


def test_equal_differences_are_certain_to_the_t_test():
    found = only(compare({"a": [0.5, 0.75, 1], "b": [0.25, 0.5, 0.75]}, "a"))

    assert (found.t, found.t_p, found.wilcoxon) == (np.inf, 0, 0)
    assert found.wilcoxon_p == 0.25  # two of the 8 ways to give signs
    assert (found.low, found.high) == (0.25, 0.25)


# --------------------------------------------------------------------------------- holm


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # 4 x 0.005, 3 x 0.01, 2 x 0.03; then 1 x 0.04 is raised to the 0.06 before it.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([NAN, 0.04, NAN, 0.01], [NAN, 0.04, NAN, 0.02]),
        ([0.5, 0.6], [1, 1]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.02], [0.02]),
        ([NAN], [NAN]),
        ([], []),
    ],
)
def test_holm_golden(p_values, expected):
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-15)


def test_holm_rejects_as_stepping_down_does():
    rng = np.random.default_rng(0)
    for p_values in rng.random((20, 6)) ** 3:
        rejected = set()
        for step, test in enumerate(np.argsort(p_values)):
            if p_values[test] > 0.05 / (6 - step):
                break
            rejected.add(test)
        assert set(np.flatnonzero(holm(p_values) <= 0.05)) == rejected


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": [[0.5]]}, r"float64 of shape \(1, 1\).*`sensitivity\[:, 0\]`"),
        ({"scores": ["0.5", "1"]}, "`scores` must be .images,. finite.*Received: <U3"),
        ({"scores": [0.5, np.inf]}, "finite numbers"),
        ({"groups": ["a"]}, "image, 2 here.*Received: 1 groups, such as .'a'."),
        ({"groups": ["a", ""]}, "a name of its own. Received: 2 groups, such as .''."),
        ({"groups": ["a", None]}, r"such as \[None\]"),
        ({"groups": [1.0, NAN]}, r"such as \[1.0, nan\]"),
        ({"reasons": ["blank"]}, r"one text a score, \(2,\). Received: \(1,\)"),
        ({"confidence": 95}, r"in \(0, 1\), such as 0.95. Received: 95"),
        ({"confidence": 0}, "Received: 0"),
        ({"resamples": 0}, "at least 1. Received: 0"),
    ],
)
def test_summarize_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        summarize(**({"scores": [0.5, 1.0]} | arguments))


GOOD = {"a": [0.5, 1.0], "b": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scores": [0.5]}, TypeError, "dict of method name.*Received: list"),
        ({"scores": {"a": [0.5]}}, ValueError, r"another method.*scores of \['a'\]"),
        ({"reference": "c"}, ValueError, r"reference 'c', scores of \['a', 'b'\]"),
        ({"scores": GOOD | {"b": [1]}}, ValueError, "'a': 2, 'b': 1. images. Use NaN"),
        ({"scores": GOOD | {"b": [1, np.inf]}}, ValueError, r"`scores\['b'\]` must"),
        ({"groups": ["a"]}, ValueError, "Received: 1 groups"),
        ({"by_group": True}, ValueError, "groups=None. Pass `table.groups`"),
        ({"confidence": 1}, ValueError, "Received: 1"),
    ],
)
def test_compare_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        compare(**({"scores": GOOD, "reference": "a"} | arguments))


@pytest.mark.parametrize("p_values", [[0.5, 1.1], [-0.1], [[0.5]], 0.5])
def test_holm_rejects(p_values):
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\], or NaN. Received: "):
        holm(p_values)
