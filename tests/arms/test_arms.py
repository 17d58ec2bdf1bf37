"""The grammar of arms: what it means, what it is called, and every way in which it is refused."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwjax.arms.arm import SCHEMES, ArmContext, scheme
from cwjax.arms.grammar import (
    STANDARD_ARMS,
    arm_row,
    list_arms,
    parse_arm,
    parse_arms,
    total_epochs,
)
from cwjax.arms.row import ArmRow, replace, row_bytes, uniform_row
from cwjax.arms.settings import AtLeastZero
from cwjax.config import DesignConfig
from cwjax.errors import ConfigError

COUNTS = np.array([400, 100, 4])
CONTEXT = ArmContext(COUNTS, COUNTS, ("cat", "dog", "eel"), num_epochs=10)


def names(*specs: str) -> list[str]:
    return [str(arm) for arm in parse_arms(specs)]


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("focal", "focal"),
        ("focal:gamma=2", "focal"),
        ("focal:gamma=2.0:weights=uniform:drw=0", "focal"),
        ("focal:gamma=01.50", "focal:gamma=1.5"),
        ("focal:gamma=-0.0", "focal:gamma=0"),
        ("focal:drw=.25:weights=balanced", "focal:weights=balanced:drw=0.25"),
        ("effective_number:beta=0.99990", "effective_number:beta=0.9999"),
        ("effective_number:beta=0.99999999", "effective_number:beta=0.99999999"),
        ("inverse_power:gamma=1e-7", "inverse_power:gamma=1e-07"),
        ("ldam:weights=effective_number(0.9999)", "ldam"),
        ("ldam:weights=effective_number(0.999)", "ldam:weights=effective_number"),
        ("ldam:weights=effective_number(0.5)", "ldam:weights=effective_number(0.5)"),
        ("ldam:weights=uniform:drw=0", "ldam:weights=uniform"),
        ("tau_norm:tau=1", "tau_norm:tau=1"),
        ("posthoc_logit_adjusted", "posthoc_logit_adjusted"),
    ],
)
def test_names_leave_out_defaults_and_can_be_read_again(spec: str, canonical: str) -> None:
    arm = parse_arm(spec)
    assert str(arm) == canonical
    assert parse_arm(canonical) == arm


@settings(deadline=None)
@given(st.floats(0, 1e30), st.floats(0, 1, exclude_max=True))
def test_every_number_survives_the_name(gamma: float, drw: float) -> None:
    arm = parse_arm(f"focal:gamma={gamma}:weights=effective_number({drw}):drw={drw}")
    assert parse_arm(str(arm)) == arm


def test_several_values_make_several_arms() -> None:
    assert names("logit_adjusted:tau=0.5,1,2") == [
        "logit_adjusted:tau=0.5",
        "logit_adjusted",
        "logit_adjusted:tau=2",
    ]
    assert names("focal:gamma=1,3:weights=balanced,effective_number(0.9)") == [
        "focal:gamma=1:weights=balanced",
        "focal:gamma=1:weights=effective_number(0.9)",
        "focal:gamma=3:weights=balanced",
        "focal:gamma=3:weights=effective_number(0.9)",
    ]


def test_all_is_the_whole_table_but_custom() -> None:
    assert names("all") == [row.name for row in list_arms() if row.name != "custom"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["balaced"], r"no scheme 'balaced' \(did you mean 'balanced'\?\); choose one of uniform,"),
        ([""], "no scheme ''; choose one of uniform, balanced"),
        (["all:drw=1"], "no scheme 'all'"),
        (["Balanced"], "no scheme 'Balanced'"),
        (["focal:gama=1"], r"no setting 'gama' \(did you mean 'gamma'\?\); .* gamma, weights, drw"),
        (["uniform:drw=0.8"], "uniform has no setting 'drw'; its settings: lr, weight_decay"),
        (["focal:drw=0.5"], "weights=uniform has none"),
        (["ldam:weights=uniform:drw=0.8"], "weights=uniform has none"),
        (["focal:gamma"], "'gamma' is not key=value"),
        (["focal:gamma="], "'gamma=' is not key=value"),
        (["focal:"], "'' is not key=value"),
        (["focal:gamma=1,"], "gamma='': not a number"),
        (["focal:gamma=1_000"], "gamma='1_000': not a number"),
        (["focal:gamma=1\n"], r"gamma='1\\n': not a number"),
        (["focal:gamma=٣"], "gamma='٣': not a number"),
        (["focal:gamma=two"], r"gamma='two': not a number; give one in \[0, inf\)"),
        (["focal:gamma=-1"], r"gamma='-1': out of range; give a number in \[0, inf\)"),
        (["focal:gamma=nan"], "gamma='nan': out of range"),
        (["focal:gamma=inf"], "gamma='inf': out of range"),
        (["effective_number:beta=1"], r"beta='1': out of range; give a number in \[0, 1\)"),
        (["ldam:s=0"], r"s='0': out of range; give a number in \(0, inf\)"),
        (["remix:kappa=0.5"], r"kappa='0.5': out of range; give a number in \[1, inf\)"),
        (["remix:tau=1.1"], r"give a number in \[0, 1\]"),
        (["focal:gamma=1:gamma=2"], "gamma= is given twice; write its values as gamma=a,b"),
        (["focal:weights=ldam"], "no scheme 'ldam'; choose one of uniform, balanced, inv"),
        (["focal:weights=balanced(1)"], r"balanced takes 0 value\(s\) in parentheses"),
        (["focal:weights=balanced("], r"write it as name or name\(value\)"),
        (["focal:weights=effective_number(2)"], "beta='2': out of range"),
        (["focal", "focal:gamma=2"], "arm 'focal' is given twice, by focal and focal:gamma=2"),
        (["all", "crt:epochs=0.2"], "arm 'crt' is given twice, by all and crt:epochs=0.2"),
        (["logit_adjusted:tau=1,1.0"], "arm 'logit_adjusted' is given twice"),
        ([], "no arms: give at least one"),
        (["focal:gamma=best(1)"], r"gamma='best\(1\)': give best\(\) at least two values"),
        (["focal:gamma=best(1,1.0)"], "at least two values, each once"),
        (["focal:gamma=best()"], "gamma='': not a number"),
        (["focal:gamma=best(1,-1)"], "gamma='-1': out of range"),
        (["focal:weights=best(balanced,uniform)"], r"best\(\) is of numbers"),
        (["focal:drw=best(0,0.5)"], "weights=uniform has none"),
        (["focal:gamm=best(1,2)"], "no setting 'gamm'"),
        (["tau_norm:tau=best(0,1)"], "tau_norm is not trained, so nothing is tuned"),
        (["tau_norm:best"], "tau_norm is not trained, so nothing is tuned"),
        (["custom:best"], "custom needs file="),
        (["focal:best", "focal:gamma=best(0.5,1,2):lr=best(0.3,1,3)"], "is given twice"),
    ],
)
def test_mistakes_are_refused_in_one_line(specs: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_arms(specs)
    assert "\n" not in str(caught.value)


@pytest.mark.fault(64)
@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_an_arm_or_a_config_error_of_one_line(text: str) -> None:
    for spec in (text, f"focal:{text}", f"focal:gamma={text}", f"focal:weights={text}"):
        try:
            assert parse_arms([spec])
        except ConfigError as error:
            message = str(error)
        else:
            message = "no error"
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "name", "candidates"),
    [
        ("focal:gamma=best(0.5,2)", "focal:gamma=best(0.5,2)", ["focal:gamma=0.5", "focal"]),
        ("uniform:lr=best(3,1.0)", "uniform:lr=best(3,1)", ["uniform:lr=3", "uniform"]),
        (
            "logit_adjusted:lr=best(1,3):tau=best(1,2)",
            "logit_adjusted:tau=best(1,2):lr=best(1,3)",
            ["logit_adjusted", "logit_adjusted:lr=3", "logit_adjusted:tau=2",
             "logit_adjusted:tau=2:lr=3"],
        ),
        (
            "ldam:weights=uniform:c=best(0.1,0.2)",
            "ldam:c=best(0.1,0.2):weights=uniform",
            ["ldam:c=0.1:weights=uniform", "ldam:c=0.2:weights=uniform"],
        ),
        # A setting that is given at its default would not show beside `best`.
        ("focal:best:gamma=2", "focal:lr=best(0.3,1,3)", ["focal:lr=0.3", "focal", "focal:lr=3"]),
        (
            "focal:best:gamma=1",
            "focal:gamma=1:best",
            ["focal:gamma=1:lr=0.3", "focal:gamma=1", "focal:gamma=1:lr=3"],
        ),
    ],
)  # fmt: skip
def test_a_tuned_arm_is_one_arm_with_candidates(
    spec: str, name: str, candidates: list[str]
) -> None:
    arm = parse_arm(spec)
    assert str(arm) == name
    assert parse_arm(name) == arm
    assert [str(each) for each in arm.candidates] == candidates
    assert [parse_arm(each) for each in candidates] == list(arm.candidates)
    assert all(each.candidates == () for each in arm.candidates)
    with pytest.raises(ValueError, match="is not trained: its candidates are"):
        arm_row(arm, CONTEXT)


def test_plain_lists_and_best_stand_side_by_side() -> None:
    assert names("focal:gamma=1,best(0.5,2):weights=balanced,uniform") == [
        "focal:gamma=1:weights=balanced",
        "focal:gamma=1",
        "focal:gamma=best(0.5,2):weights=balanced",
        "focal:gamma=best(0.5,2)",
    ]


def test_every_standard_grid_is_nine_settings_with_the_default_among_them() -> None:
    plain, tuned = parse_arms(["all"]), parse_arms(["all"], tune=True)
    for arm, best in zip(plain, tuned, strict=True):
        assert best == (arm if arm.kind == "post_hoc" else parse_arm(f"{arm}:best"))
        assert len(best.candidates) == (0 if arm.kind == "post_hoc" else 9)
        if best.candidates:
            assert str(best) == f"{arm}:best"
            rows = [row_bytes(arm_row(each, CONTEXT)) for each in best.candidates]
            assert row_bytes(arm_row(arm, CONTEXT)) in rows
    own = parse_arms(["focal:gamma=best(1,3)", "tau_norm"], tune=True)
    assert [str(arm) for arm in own] == ["focal:gamma=best(1,3)", "tau_norm"]


def test_a_scheme_declares_its_grid() -> None:
    try:

        @scheme(formula="", source="", grid={"shift": (1, 2.5)})
        def shifted(context: ArmContext, *, shift: AtLeastZero = 3.0) -> ArmRow:
            """Every logit is shifted."""
            return replace(uniform_row(context.num_classes), logit_bias=shift)

        tuned = parse_arm("shifted:best")
        assert tuned == parse_arm("shifted:shift=best(1,2.5):lr=best(0.3,1,3)")
        with pytest.raises(ConfigError, match="shift='-1': out of range"):
            scheme(formula="", source="", grid={"shift": (-1, 1)})(shifted)
        with pytest.raises(ConfigError, match="has no setting 'shft'"):
            scheme(formula="", source="", grid={"shft": (0, 1)})(shifted)
    finally:
        SCHEMES.pop("shifted", None)


def test_parse_arm_takes_one_arm_only() -> None:
    with pytest.raises(ConfigError, match="stands for 2 arms"):
        parse_arm("focal:gamma=1,2")


def test_a_scheme_is_one_entry() -> None:
    try:

        @scheme(formula="b_c = shift", source="nobody 2030")
        def shifted(context: ArmContext, *, shift: AtLeastZero = 3.0) -> ArmRow:
            """Every logit is shifted."""
            return replace(uniform_row(context.num_classes), logit_bias=shift)

        assert arm_row(parse_arm("shifted:shift=4"), CONTEXT).logit_bias.tolist() == [4, 4, 4]
        grid = "weight_decay=best(0,0.0001,0.005):lr=best(0.3,1,3)"
        about = "Every logit is shifted."
        described = ("shifted", "b_c = shift", "shift=3", "nobody 2030", about, grid)
        assert described in list_arms()
        assert "shifted" in names("all")
    finally:
        SCHEMES.pop("shifted", None)


def test_a_scheme_has_no_setting_that_every_arm_has() -> None:
    def crawling(context: ArmContext, *, lr: float = 0.1) -> ArmRow:
        return uniform_row(context.num_classes)

    with pytest.raises(ConfigError, match="scheme crawling: every arm has a setting lr already"):
        scheme(formula="", source="")(crawling)
    assert "crawling" not in SCHEMES


def test_the_list_of_arms_says_what_one_needs_to_know() -> None:
    rows = {row.name: row for row in list_arms()}
    assert rows["ldam"].settings == "c=0.5:s=30:drw=0.8:weights=effective_number(0.9999)"
    assert rows["custom"].settings == "file=:drw=0"
    assert rows["tau_norm"].settings == "tau="
    assert rows["focal"].source == "Lin et al. 2017"
    assert all(row.formula for row in rows.values())
    assert all(row.source for row in rows.values() if "uniform" not in row.name)


@pytest.mark.fault(37)
def test_every_arm_refuses_a_class_without_examples() -> None:
    for counts in ([5, 0, 3], [0, 0, 0]):
        empty = ArmContext(np.array(counts), COUNTS, ("cat", "dog", "eel"), 10)
        for arm in parse_arms(["all"]):
            if arm.kind != "post_hoc":
                with pytest.raises(ConfigError, match=f"arm '{arm}': no training example of class"):
                    arm_row(arm, empty)
    whole_file = ArmContext(COUNTS, np.array([5, 0, 3]), ("cat", "dog", "eel"), 10)
    with pytest.raises(ConfigError, match="no training example of class 'dog'"):
        arm_row(parse_arm("balanced"), whole_file)


@pytest.mark.parametrize("spec", ["logit_adjusted:tau=1e300", "ldam:s=1e39", "focal:gamma=1e200"])
def test_settings_that_overflow_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="not finite in float32; give smaller settings"):
        arm_row(parse_arm(spec), CONTEXT)


@pytest.mark.parametrize("spec", ["inverse_power:gamma=1e300", "vector_scaling:gamma=1e300"])
def test_settings_that_underflow_stay_finite(spec: str) -> None:
    assert all(
        np.isfinite(leaf).all()
        for leaf in arm_row(parse_arm(spec), CONTEXT)._replace(
            remix_kappa=0, second_stage_max_norm=0
        )
    )


def test_post_hoc_arms_have_no_row() -> None:
    with pytest.raises(ValueError, match="not trained"):
        arm_row(parse_arm("tau_norm"), CONTEXT)


@pytest.mark.parametrize(
    ("spec", "num_epochs", "steps_per_epoch", "expected"),
    [
        ("crt", 10, 1000, 12),
        ("lws:epochs=0.5", 10, 1000, 15),
        ("crt", 1, 1000, 2),
        ("balanced", 10, 1, 10),
        ("crt", 12, 22, 12 + 23),  # 22 epochs would be 484 steps
        ("long_uniform", 12, 22, 12 + 23),
        ("crt:min_steps=100", 12, 22, 12 + 5),
        ("crt:min_steps=0", 12, 22, 12 + 2),
        ("crt:min_steps=0:epochs=0.01", 12, 22, 12 + 1),
    ],
)
def test_total_epochs(spec: str, num_epochs: int, steps_per_epoch: int, expected: int) -> None:
    assert total_epochs(parse_arm(spec), num_epochs, steps_per_epoch) == expected


def test_rows_are_equal_where_every_field_is() -> None:
    row = uniform_row(3)
    assert row_bytes(row) == row_bytes(uniform_row(3))
    for field in ArmRow._fields:
        leaf = getattr(row, field)
        other = np.full(leaf.shape if leaf.size else 2, 5, leaf.dtype)  # images have no features
        assert row_bytes(row) != row_bytes(row._replace(**{field: other}))


def test_replace_keeps_types_and_shapes() -> None:
    row = replace(uniform_row(3), margin=0.5, deferred_from=4, class_weights=[1, 2, 3])
    assert row.margin.tolist() == [0.5, 0.5, 0.5]
    assert (row.deferred_from.dtype, row.class_weights.dtype) == (np.int32, np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        replace(uniform_row(3), margin=[1, 2])
    with pytest.raises(AttributeError):
        replace(uniform_row(3), margins=1)


def test_the_grammar_does_not_import_jax() -> None:
    code = "import sys, cwjax.arms.grammar, cwjax.arms.sampling; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_standard_arms() -> None:
    arms = parse_arms(["standard"])
    assert len(arms) == 8
    assert [str(arm) for arm in arms] == list(STANDARD_ARMS)
    assert str(arms[0]) == "uniform"  # which post-hoc arms are computed from
    assert set(STANDARD_ARMS) <= set(names("all"))
    with pytest.raises(ConfigError, match="arm 'crt' is given twice, by standard and crt"):
        parse_arms(["standard", "crt"])


def test_the_standard_arms_are_those_that_the_help_names() -> None:
    source = inspect.getsource(DesignConfig).replace("\n    ", " ")
    assert f"({', '.join(STANDARD_ARMS)})" in source
