"""Look and small behaviour of the report's page: one style sheet, one script, both inline."""

STYLE = """
:root { --ink: #1d2321; --paper: #fbfaf6; --soft: #6a736f; --line: #dcd9cf; --good: #2d6a4f; --bad: #a4343a;
        --open: #8a6d1a; --panel: #f2f0e8; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8e3; --paper: #161a18; --soft: #98a29d; --line: #343a37; --good: #74c69d; --bad: #f08a8f;
          --open: #e0c060; --panel: #1f2422; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .6rem; }
h4 { margin: 0 0 .2rem; font-size: .75rem; color: var(--soft); font-weight: 600; }
.verdict { border-left: .35rem solid var(--open); background: var(--panel); padding: .8rem 1.1rem; margin: 0 0 1rem; }
.verdict strong { font-size: 1.2rem; } .verdict ul { margin: .4rem 0 0; padding-left: 1.1rem; }
.verdict.promote { border-color: var(--good); } .verdict.reject { border-color: var(--bad); }
.lead { font-size: 1.1rem; }
table { border-collapse: collapse; width: 100%; margin: 0 0 1rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
th { font-size: .8rem; color: var(--soft); font-weight: 600; }
.bar { width: 9rem; height: .6rem; display: block; } .track { fill: var(--line); } .new { fill: var(--good); }
.old { fill: var(--ink); }
.better { color: var(--good); } .worse { color: var(--bad); } .same { color: var(--soft); }
.buttons { display: flex; flex-wrap: wrap; gap: .5rem; }
button { font: inherit; padding: .3rem .8rem; border: 1px solid var(--line); background: none; color: inherit;
         border-radius: 1rem; cursor: pointer; }
button[aria-pressed=true] { background: var(--ink); color: var(--paper); }
article { border-top: 1px solid var(--line); padding: .8rem 0; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 1rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.45 ui-monospace, monospace; }
pre.prompt { color: var(--soft); margin: .3rem 0 .6rem; }
.tag { font-size: .75rem; border: 1px solid var(--bad); color: var(--bad); border-radius: .6rem; padding: 0 .5rem; }
code { font-size: .85rem; overflow-wrap: anywhere; } footer { color: var(--soft); margin-top: 2rem; }
@media (max-width: 45rem) { .three { grid-template-columns: 1fr; } .bar { width: 4rem; } }
"""

SCRIPT = """
const kinds = [...document.querySelectorAll("button[data-kind]")];
function show(kind) {
  for (const button of kinds) {
    const on = button.dataset.kind === kind;
    button.setAttribute("aria-pressed", on);
    document.getElementById(button.dataset.kind).hidden = !on;
  }
}
for (const button of kinds) {
  button.addEventListener("click", () => {
    show(button.dataset.kind);
    history.replaceState(null, "", "#" + button.dataset.kind);
  });
}
const wanted = kinds.find((button) => "#" + button.dataset.kind === location.hash);
const full = kinds.find((button) => !button.textContent.startsWith("0 "));
if (wanted ?? full) { show((wanted ?? full).dataset.kind); }
"""
