"""Statistics that a decision can rest on: paired, by group, never sure of what was not seen.

Leaf room: numbers in, numbers out; knows no case, no report, no gate. NumPy and SciPy are imported at the first call.

    paired_interval([0, 1, 0, -1, 1], resamples=4000, seed=0, alpha=0.05)      # what to decide on
    paired_bootstrap(...)                                                      # the same without what was not seen
    mcnemar_exact(regressed=1, fixed=8)                                        # 0.039
    upper_rate(0, 300, 0.05)                                                   # 0.0099: none seen in 300 is not none
    exact_interval(1, 2, 0.001)                                                # (0.0005, 0.9995): one of two says nothing
    rise_interval((2, 400), (9, 100), 0.001)                                   # how much a rate has risen
    cases_to_settle(0.1, 0.02)                                                 # 1,546
    two_sample(features, second, groups)                                       # can two samples be told apart? (two_sample.py)

Errors: `EvaluationError` for data that allow no interval; `ValueError` for arguments that no caller may pass.
"""

from budwood.stats.bootstrap import Interval, paired_bootstrap, paired_interval
from budwood.stats.mcnemar import mcnemar_exact
from budwood.stats.rates import exact_interval, rise_interval, upper_rate, wilson_interval
from budwood.stats.sample_size import cases_to_settle

__all__ = [
    "Interval",
    "cases_to_settle",
    "exact_interval",
    "mcnemar_exact",
    "paired_bootstrap",
    "paired_interval",
    "rise_interval",
    "upper_rate",
    "wilson_interval",
]
