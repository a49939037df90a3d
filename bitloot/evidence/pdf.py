"""The pack on paper: the same entries, for people. The JSON file is what a program checks."""

from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from bitloot.evidence.chain import Entry

FONT, BOLD = "Vera", "VeraBd"
TITLES = {
    "pack": "This pack", "order": "Order", "item": "Item", "event": "Timeline", "payment": "Payment and its quote",
    "refund": "Refund", "refund_address": "Address for the refund", "mail": "Mail sent", "purchase": "Purchase",
    "purchase_attempt": "Permit to buy once", "supplier_call": "Call to the supplier", "key": "Key (never its text)",
    "delivery": "Delivery", "reveal": "Key opened by the customer", "webhook": "News from a provider",
    "decision": "Decision of staff", "terms": "Terms of the shop",
}  # fmt: skip
HOW_TO_CHECK = (
    "Each entry carries the SHA-256 of the one before it, written as RFC 8785 (JCS), so none can be changed, moved or"
    " left out. The JSON file of the same pack is checked with: manage.py export_order --verify FILE. The final digest"
    " there has to be the one above. Times are UTC. Characters that this font lacks are written as \\uXXXX."
)


def pdf_of(pack: dict[str, Any]) -> bytes:
    # 20 MB of memory, which web processes that make no PDF are spared.
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

    styles, out = _styles(), BytesIO()
    title = f"Evidence about order {pack['order']}"
    document = SimpleDocTemplate(
        out, pagesize=A4, title=title, author=_drawn(str(pack["entries"][0]["facts"]["shop"])), invariant=1,
        leftMargin=18 * mm, rightMargin=18 * mm, topMargin=16 * mm, bottomMargin=18 * mm,
    )  # fmt: skip
    story: list[Any] = [
        Paragraph(title, styles["title"]),
        Paragraph(
            f"Made at {pack['made_at']} by {_safe(pack['made_by'])}. {len(pack['entries'])} entries.", styles["text"]
        ),
        Paragraph(f"Final digest: {pack['digest']}", styles["digest"]),
        Paragraph(_safe(HOW_TO_CHECK), styles["text"]),
        Spacer(1, 4 * mm),
    ]
    for entry in pack["entries"]:
        story += _entry(entry, styles)
    document.build(story, onFirstPage=_footer(pack), onLaterPages=_footer(pack))
    return out.getvalue()


def _entry(entry: Entry, styles: dict[str, Any]) -> list[Any]:
    from reportlab.lib import colors
    from reportlab.lib.units import mm
    from reportlab.platypus import Paragraph, Spacer, Table, TableStyle

    heading = f"{entry['number']}. {TITLES.get(entry['kind'], entry['kind'])} · {entry['at']}"
    facts = [(name, value) for name, value in entry["facts"].items() if value not in ("", None)]
    # A row for each line of a long text, because a row cannot be broken over pages.
    rows = [
        (name if number == 0 else "", line) for name, value in facts for number, line in enumerate(_lines(str(value)))
    ]
    cells = [
        [Paragraph(_safe(name.replace("_", " ")), styles["label"]), Paragraph(_safe(line), styles["text"])]
        for name, line in rows
    ]
    table = Table(cells, colWidths=[38 * mm, 136 * mm], style=TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
        ("LINEBELOW", (0, -1), (-1, -1), 0.25, colors.lightgrey)])) if cells else Spacer(1, 1)  # fmt: skip
    return [
        Paragraph(_safe(heading), styles["heading"]),
        Paragraph(f"before: {entry['before']}", styles["code"]),
        table,
        Spacer(1, 2 * mm),
    ]


def _lines(text: str) -> list[str]:
    size = 1000
    return [
        part[start : start + size] for part in text.splitlines() or [""] for start in range(0, len(part) or 1, size)
    ]


def _footer(pack: dict[str, Any]) -> Any:
    def draw(canvas: Any, document: Any) -> None:
        canvas.setFont(FONT, 6.5)
        canvas.drawString(51, 30, f"Order {pack['order']} · digest {pack['digest']} · page {document.page}")

    return draw


def _styles() -> dict[str, Any]:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    for name in (FONT, BOLD):
        pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    text = ParagraphStyle("text", fontName=FONT, fontSize=8, leading=10.5, splitLongWords=True)
    return {
        "text": text,
        "label": ParagraphStyle("label", parent=text, textColor="#555555"),
        "code": ParagraphStyle("code", parent=text, fontSize=6.5, leading=9, textColor="#555555", keepWithNext=1),
        "digest": ParagraphStyle("digest", parent=text, fontName=BOLD),
        "heading": ParagraphStyle("heading", parent=text, fontName=BOLD, fontSize=9, leading=12, keepWithNext=1),
        "title": ParagraphStyle("title", parent=text, fontName=BOLD, fontSize=14, leading=20),
    }


def _safe(text: str) -> str:
    return escape(_drawn(text))


def _drawn(text: str) -> str:
    """Write what the font cannot draw by its code point: nothing is lost, and nothing is guessed."""
    from reportlab.pdfbase import pdfmetrics

    known = pdfmetrics.getFont(FONT).face.charToGlyph
    return "".join(sign if ord(sign) in known else f"\\u{ord(sign):04X}" for sign in text)
