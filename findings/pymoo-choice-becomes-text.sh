#!/usr/bin/env bash
# An option False beside "auto" reaches a network as the text "False" in a search by pymoo, and switches on what it should switch off.
#
# Choice(options=[False, "auto"]) of its mixed variables takes any objects, and draws them with NumPy, which first makes one array of them:
# False and a word are both text, 2 and 0.5 both floats, True and 2 both whole numbers. `if option:` is then true for all, `option is
# False` for none, and 2.0 groups are an error, if one is lucky. The evaluated values and the best that is reported are the changed ones;
# nothing is said. Where None is among the options all stay as they are. Let the options be positions in a list of your own.
#
# Seen with pymoo 0.6.2, NumPy 2.4.6, Python 3.11; what the function to be minimised was given:
# options                given                   seen as true
# False, 'auto'          'False', 'auto'         2 of 2
# False, 'auto', None    False, 'auto', None     1 of 3
# 2, 0.5                 2.0, 0.5                2 of 2
# True, 2                1, 2                    2 of 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q pymoo==0.6.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from pymoo.core.mixed import MixedVariableGA
from pymoo.core.problem import ElementwiseProblem
from pymoo.core.variable import Choice, Integer
from pymoo.optimize import minimize


class Recorded(ElementwiseProblem):
    def __init__(self, options):
        super().__init__(vars={"bias": Choice(options=options), "layers": Integer(bounds=(1, 8))}, n_obj=1)
        self.given = {}

    def _evaluate(self, values, out, *args, **kwargs):
        option = values["bias"]
        plain = str(option) if isinstance(option, str) else getattr(option, "item", lambda: option)()
        self.given[repr(plain)] = bool(option)
        out["F"] = float(values["layers"])


CASES = (
    ([False, "auto"], {"'False'": True, "'auto'": True}),
    ([False, "auto", None], {"False": False, "'auto'": True, "None": False}),
    ([2, 0.5], {"2.0": True, "0.5": True}),
    ([True, 2], {"1": True, "2": True}),
)
print("options                given                   seen as true")
for options, expected in CASES:
    problem = Recorded(options)
    minimize(problem, MixedVariableGA(pop_size=10), ("n_evals", 40), seed=1, verbose=False)
    asked, given = ", ".join(map(repr, options)), ", ".join(sorted(problem.given, key=list(expected).index))
    print(f"{asked:22} {given:23} {sum(problem.given.values())} of {len(options)}")
    assert problem.given == expected, "options reach the function otherwise now"
PY
