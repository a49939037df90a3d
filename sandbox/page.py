"""The control page."""

from collections import Counter
from html import escape
from typing import Any

from sandbox.catalogue import BY_PRODUCT_ID
from sandbox.config import DELIVERY_MODES, SCRIPT_NAMES

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: light-dark(#0b57d0, #a8c7fa); }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 1rem; } code { font-size: .85em; overflow-wrap: anywhere; } small { opacity: .75; }
td:last-child { width: 40%; }
table { border-collapse: collapse; width: 100%; } td, th { border-top: 1px solid var(--line); padding: .5rem .6rem;
text-align: left; vertical-align: top; } th { font-weight: 600; border: 0; }
form { display: inline-flex; gap: .3rem; flex-wrap: wrap; align-items: center; margin: 0 .15rem .25rem 0; }
button, input, select { font: inherit; font-size: .85rem; padding: .15rem .5rem; border: 1px solid var(--line);
border-radius: .35rem; background: var(--soft); color: inherit; } button { cursor: pointer; }
button:hover, button:focus-visible { border-color: var(--accent); color: var(--accent); }
input { width: 7rem; } .status { font-weight: 600; } .scroll { overflow-x: auto; }
details summary { cursor: pointer; font-size: .85rem; opacity: .8; }
"""
UNPAID = ("waiting", "expired")
PAY_BUTTONS = {
    "exact": "Pay exactly",
    "under": "Too little",
    "over": "Too much",
    "late": "Late",
    "wrong_coin": "Wrong coin",
}
PAID_BUTTONS = {"repeat": "Repeated deposit"}
STATUS_BUTTONS = (
    *("confirming", "confirmed", "sending", "finished", "partially_paid"),
    *("failed", "expired", "refunded", "cancelled"),
)
OPEN_BUTTONS = {"hold": "Never deliver", "cancel": "Cancel", "refund": "Refund"}
DONE_BUTTONS = {"refund": "Refund"}


def name_of(product_id: str) -> str:
    return BY_PRODUCT_ID[product_id].name


def render(state: dict[str, Any]) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>BitLoot sandbox</title><style>{STYLE}</style></head><body>
<h1>Sandbox: Kinguin and NOWPayments</h1>
<p>Stand-ins with invented games and invented money. <a href="/">Reload</a> ·
<a href="/control/state">State</a> · <a href="/control/ledger">Ledger</a> ·
<a href="/control/sold">Keys sold</a> as JSON.
<small>{state["jobs"]} jobs waiting, {state["webhooks_waiting"]} of them webhooks.</small></p>
{_settings(state)}
<h2>Payments (NOWPayments)</h2>
{_table(("Payment", "Amount", "Status", "Do"), [_payment(row) for row in state["payments"]])}
<h2>Orders (Kinguin)</h2>
{_table(("Order", "Keys", "Status", "Do"), [_order(row) for row in state["orders"]])}
<h2>Products</h2>
{_table(("Product", "Price and stock"), [_product(row) for row in state["products"]])}
</body></html>
"""


def _settings(state: dict[str, Any]) -> str:
    config = state["config"]
    balance = _form("/control/balance", f"{_input('balance', state['balance'])} EUR", "Set balance")
    deliver = _form("/control/config", _select("deliver", DELIVERY_MODES, config["deliver"]), "Set delivery")
    script = _form("/control/config", _select("script", SCRIPT_NAMES, config["script"]), "Set script")
    delay = _form("/control/config", f"{_input('delay_ms', config['delay_ms'])} ms", "Set supplier delay")
    return f"<h2>Settings</h2>{balance}{deliver}{script}{delay}{_rules(state['faults'])}"


def _rules(rules: list[dict[str, Any]]) -> str:
    if not rules:
        return ""
    lines = "".join(
        f"<li><code>{_text(rule['op'])}: {_text(rule['fault'])}</code>"
        f" {_text(rule['times'] or 'every')} time(s), for {_text(rule['external_id'] or 'any order')}</li>"
        for rule in rules
    )
    return f"<h2>Faults</h2><ul>{lines}</ul>{_form('/control/faults/clear', _hidden('all', '1'), 'Clear all')}"


def _payment(row: dict[str, Any]) -> tuple[str, ...]:
    base = f"/control/payments/{row['payment_id']}"
    modes = PAY_BUTTONS if row["payment_status"] in UNPAID else PAID_BUTTONS
    pay = "".join(_form(f"{base}/pay", _hidden("mode", mode), words) for mode, words in modes.items())
    steps = "".join(_form(f"{base}/status", _hidden("status", status), status) for status in STATUS_BUTTONS)
    resend = _form(f"{base}/ipn", _hidden("signed", "1"), "Resend IPN")
    parent = f"<br><small>child of {_text(row['parent_payment_id'])}</small>" if "parent_payment_id" in row else ""
    return (
        f"<code>{_text(row['payment_id'])}</code>{parent}<br><small>for {_text(row['order_id'])}</small>",
        f"{_text(row['pay_amount'])} {_text(row['pay_currency'])}<br><small>paid {_text(row['actually_paid'])};"
        f" {_text(row['price_amount'])} {_text(row['price_currency'])}"
        f"<br><code>{_text(row['pay_address'])}</code></small>",
        f"<span class=status>{_text(row['payment_status'])}</span><br><small>{_moment(row['created_at'])}</small>",
        f"{pay}<details><summary>Set the status</summary>{steps}{resend}</details>",
    )


def _order(row: dict[str, Any]) -> tuple[str, ...]:
    base = f"/control/orders/{row['order_id']}"
    buttons = {"processing": OPEN_BUTTONS, "completed": DONE_BUTTONS}.get(row["status"], {})
    actions = "".join(_form(f"{base}/{action}", _hidden("now", "1"), words) for action, words in buttons.items())
    if row["status"] == "processing":
        one = _form(f"{base}/deliver", _hidden("count", "1"), "Deliver one key") if len(row["keys"]) > 1 else ""
        actions = _form(f"{base}/deliver", _hidden("now", "1"), "Deliver now") + one + actions
    lines = "<br>".join(f"{line['qty']} × {_text(name_of(line['product_id']))}" for line in row["lines"])
    statuses = Counter(key["status"].lower() for key in row["keys"])
    keys = ", ".join(f"{count} {_text(status)}" for status, count in sorted(statuses.items()))
    held = " (held)" if row["held"] else ""
    return (
        f"<code>{_text(row['order_id'])}</code>"
        f" <small>{_text(row['dialect'])}<br>for {_text(row['external_id'])}</small>",
        f"{lines}<br><small>{row['total']:.2f} EUR; {keys}</small>",
        f"<span class=status>{_text(row['status'])}</span>{held}<br><small>{_moment(row['created_at'])}</small>",
        actions,
    )


def _product(row: dict[str, Any]) -> tuple[str, ...]:
    fields = (
        f"{_input('price', row['price'])} EUR {_input('qty', row['qty'])} keys"
        f" {_input('textQty', row['textQty'])} as text "
        '<label><input type="checkbox" name="announce" value="1" style="width:auto"> send product.update</label>'
    )
    form = _form(f"/control/products/{row['product_id']}", fields, "Set")
    return f"{_text(row['name'])}<br><small><code>{row['product_id']}</code></small>", form


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return "<p>None yet.</p>"
    titles = "".join(f"<th>{title}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{lines}</table></div>'


def _form(action: str, fields: str, button: str) -> str:
    return f'<form method="post" action="{_text(action)}">{fields}<button>{_text(button)}</button></form>'


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{_text(value)}">'


def _input(name: str, value: Any) -> str:
    return f'<input name="{name}" value="{_text(value)}" aria-label="{name}">'


def _select(name: str, choices: tuple[str, ...], chosen: str) -> str:
    options = "".join(f"<option{' selected' * (choice == chosen)}>{_text(choice)}</option>" for choice in choices)
    return f'<select name="{name}" aria-label="{name}">{options}</select>'


def _moment(stamp: str) -> str:
    return _text(stamp[:19].replace("T", " "))


def _text(value: Any) -> str:
    return escape(str(value))
