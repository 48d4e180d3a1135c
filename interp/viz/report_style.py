"""The style sheet of reports: one column, quiet rules, system fonts, fit for screens and paper."""

CSS = """
:root { --ink: #1f2430; --muted: #666d7a; --rule: #e3e6ea; --soft: #f6f7f9; --accent: #0072b2;
  --sans: Inter, "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif;
  --mono: Menlo, "DejaVu Sans Mono", "Liberation Mono", "Courier New", monospace; }
* { box-sizing: border-box; }
html { color-scheme: light; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); font: 17px/1.6 var(--sans);
  -webkit-font-smoothing: antialiased; }
main { max-width: 860px; margin: 0 auto; padding: 72px 24px 96px; }
header { margin-bottom: 44px; padding-bottom: 28px; border-bottom: 1px solid var(--rule); }
h1 { margin: 0; font-size: 38px; line-height: 1.18; font-weight: 700; letter-spacing: -0.02em;
  text-wrap: balance; }
header p { margin: 14px 0 0; max-width: 660px; color: var(--muted); font-size: 19px;
  line-height: 1.5; }
h2 { margin: 60px 0 14px; font-size: 24px; line-height: 1.3; font-weight: 650;
  letter-spacing: -0.01em; }
p { margin: 0 0 16px; max-width: 700px; overflow-wrap: anywhere; white-space: pre-line; }
p.strong { margin: 22px 0; padding: 2px 0 2px 18px; border-left: 3px solid var(--accent);
  font-weight: 600; }
pre { margin: 18px 0; padding: 14px 16px; overflow-x: auto; background: var(--soft);
  border-radius: 4px; font: 13.5px/1.55 var(--mono); }
figure { margin: 36px 0; }
figcaption { margin-top: 10px; max-width: 700px; color: var(--muted); font-size: 14.5px;
  line-height: 1.5; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 650; }
/* The margin lines up the titles of the figures, which stand 12 pixels in, with the text. */
.plot { margin-left: -12px; overflow-x: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; border-top: 1.5px solid var(--ink);
  border-bottom: 1.5px solid var(--ink); font-size: 15px; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 14px; text-align: left; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 4px; }
th:last-child, td:last-child { padding-right: 4px; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 650; vertical-align: bottom; }
tbody tr + tr td { border-top: 1px solid var(--rule); }
.number { text-align: right; white-space: nowrap; }
tr.control td { color: var(--muted); font-style: italic; }
.quotes { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 18px; }
blockquote { margin: 0; padding: 14px 18px 16px; background: var(--soft); border-radius: 4px;
  border-top: 3px solid var(--rule); }
blockquote h3 { margin: 0 0 8px; font-size: 13px; font-weight: 650; color: var(--muted); }
blockquote div { font-size: 15.5px; line-height: 1.55; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.tree, .tree ul { margin: 0; padding: 0 0 0 18px; list-style: none; }
.tree { padding: 0; }
.tree li { margin: 8px 0; padding: 8px 14px; border-left: 3px solid var(--rule);
  font-size: 15px; line-height: 1.5; }
.tree li.alarm { border-left-color: #d55e00; }
.tree li.muted { border-left-style: dashed; }
.tree li.muted > div { color: var(--muted); font-style: italic; }
.tree b { font-size: 13px; font-weight: 650; color: var(--muted); }
.tree div { white-space: pre-wrap; overflow-wrap: anywhere; }
footer { margin-top: 72px; padding-top: 18px; border-top: 1px solid var(--rule);
  color: var(--muted); font-size: 14px; }
summary { cursor: pointer; padding: 4px 0; }
footer pre { margin: 6px 0 14px; font-size: 12.5px; color: var(--ink); }
@media (max-width: 640px) { main { padding: 36px 18px 56px; } h1 { font-size: 29px; }
  body { font-size: 16px; } }
@media print { body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  h2 { break-after: avoid; } figure, blockquote, tr { break-inside: avoid; }
  .plot, .scroll { overflow: visible; } .modebar { display: none; } }
"""
"""Goes into the head of the page; it names no file and no address."""
