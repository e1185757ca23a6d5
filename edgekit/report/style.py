"""``STYLE``: how a page looks, on a phone and on a desk, by day, by night and on paper."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--text:#1b2129;--soft:#5a6573;--line:#dce1e7;--s0:#8a97a8;
--s1:#0b7a75;--shade:11,122,117;--good:#19714a;--warn:#8a5300;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--page:#12161b;--card:#1b2128;--text:#e7ebf0;--soft:#9ca8b6;--line:#323b46;
--s0:#7d8a9a;--s1:#35b8ae;--shade:53,184,174;--good:#62c995;--warn:#f0b357;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 16px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 8px;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:36px 0 12px;overflow-wrap:anywhere}
h3{font-size:1rem;margin:0 0 10px;overflow-wrap:anywhere}p{margin:0 0 12px;max-width:46rem;overflow-wrap:anywhere}.lead{color:var(--soft);font-size:1.05rem}
.soft,figcaption,footer{color:var(--soft);font-size:.875rem}footer{margin-top:40px}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));margin-bottom:14px}
.tiles{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));margin:20px 0 14px}
.card,.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:0;min-width:0}
.tile b{display:block;font-size:1.7rem;line-height:1.25;font-variant-numeric:tabular-nums}
.many .tile b{font-size:1.3rem}.tile b{overflow-wrap:anywhere}.tile span{display:block;font-size:.875rem;color:var(--soft)}
svg{display:block;width:100%;max-width:460px;height:auto;font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow:visible}
svg text{fill:var(--text)}svg .tick{fill:var(--soft);font-size:12px}svg .value{font-weight:600}
svg .s0{fill:var(--s0)}svg .s1{fill:var(--s1)}svg .grid{stroke:var(--line);stroke-width:1}
svg .whisker{stroke:var(--text);stroke-width:1.5;fill:none}svg .mark{stroke:var(--text);stroke-width:1.5}
svg .told{fill:var(--text);paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
svg .run,svg .warm,svg .hot,svg .clock,svg .bound{fill:none;stroke:var(--s1);stroke-width:1.4;stroke-linejoin:round}
svg .warm,svg .clock{stroke:var(--s0)}svg .hot,svg .bound{stroke:var(--bad)}svg .bound{stroke-dasharray:5 3}
svg .run.spread,svg .warm.spread{stroke:var(--s1);stroke-width:1;stroke-opacity:.5}svg .warm.spread{stroke:var(--s0)}svg .run{stroke:var(--text);stroke-width:1.2}svg .run.dot,svg .warm.dot{fill:var(--s1);stroke:none}svg .warm.dot{fill:var(--s0)}
svg .seen{fill:var(--text);fill-opacity:.04}svg .hollow{fill:var(--card);stroke:var(--s0);stroke-width:1.6}
figure{margin:0}figcaption{margin-top:8px;overflow-wrap:anywhere}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px;margin-bottom:14px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:8px 11px;border-top:1px solid var(--line);overflow-wrap:break-word}
.short{white-space:nowrap}thead th{border-top:0;color:var(--soft);font-weight:600}tbody th{font-weight:600}
tbody:first-child tr:first-child>*{border-top:0}
td.good{color:var(--good);font-weight:600}td.bad{color:var(--bad);font-weight:600}
.gallery{display:grid;gap:10px;grid-template-columns:repeat(auto-fill,minmax(92px,1fr));margin-bottom:14px}
.gallery figure{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px;text-align:center}
.gallery .wrong{border-color:var(--bad)}.gallery img{width:100%;height:auto;display:block;border-radius:4px}
.gallery figcaption{margin-top:6px;line-height:1.35;white-space:pre-line}.wrong figcaption{color:var(--bad)}
a{color:var(--s1);overflow-wrap:anywhere}nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 18px;font-size:.9rem}
:focus-visible{outline:2px solid var(--s1);outline-offset:2px}
.verdict{border-left:6px solid var(--good)}.verdict b{font-size:1.2rem;color:var(--good)}.verdict ul{margin:8px 0 0;padding-left:20px}
.verdict.warn{border-color:var(--warn)}.verdict.warn b{color:var(--warn)}.verdict.bad{border-color:var(--bad)}.verdict.bad b{color:var(--bad)}
.verdict li{overflow-wrap:anywhere}.card+.card,.card+.tiles,.scroll+.card{margin-top:14px}.card{margin-bottom:14px}.grid .card{margin:0}
details{margin:0 0 14px}.verdict details{margin:6px 0 0}summary{cursor:pointer;padding:6px 0;font-weight:600;overflow-wrap:anywhere}summary h2{display:inline;font-size:1.1rem}
.heat{width:auto;min-width:50%}.heat thead th+th{text-align:right}.heat td{text-align:right;white-space:nowrap;background:rgba(var(--shade),var(--of,0))}
code{font:.9em ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
@media(max-width:640px){.gallery{grid-template-columns:repeat(4,1fr);gap:8px}.gallery figure{padding:5px}
h1{font-size:1.45rem}.tile b,.many .tile b{font-size:1.25rem}.tiles{grid-template-columns:1fr 1fr;gap:10px}
table,tbody,tr,tbody th,td{display:block}thead{display:none}tr{border-top:1px solid var(--line);padding:10px 14px}
tbody tr:first-child{border-top:0}tbody th,td{border:0;padding:1px 0;overflow-wrap:anywhere;white-space:normal}
td[data-label]::before{content:attr(data-label) ": ";color:var(--soft);font-weight:400}
table.heat{display:table;width:100%}.heat thead{display:table-header-group}.heat tbody{display:table-row-group}.heat tr{display:table-row}
.heat tbody th,.heat td{display:table-cell;padding:7px 9px;border-top:1px solid var(--line);overflow-wrap:normal}}
@media print{:root{--page:#fff;--card:#fff;--text:#000;--soft:#444;--line:#bbb;--s0:#777;--s1:#0b7a75;--shade:11,122,117;--good:#19714a;
--warn:#8a5300;--bad:#b3261e}main{max-width:none;padding:0}nav{display:none}.card,.tile,tr{break-inside:avoid}.scroll{overflow:visible}
details::details-content{content-visibility:visible;block-size:auto}}
"""
