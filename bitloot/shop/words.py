"""What the order page's scripts say. The words stand here, so that they are translated like all others.

The page carries them as JSON. `{name}` is filled in by the script. Where a number decides between forms, they are named
as Intl.PluralRules names them; a language without a form of its own there uses `other`.
"""

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from bitloot.core.sentences import Words

# Kinguin's names of the most common regions; what is not here is shown as it came.
REGIONS: dict[str, Words] = {
    "Region free": _("Region free"),
    "Europe": _("Europe"),
    "United States": _("United States"),
    "Rest of the world": _("Rest of the world"),
}


def region_name(region: str) -> str:
    return str(REGIONS.get(region, region))


WORDS: "dict[str, Words | dict[str, Words]]" = {
    "locale": pgettext_lazy("BCP 47 tag for numbers and dates", "en-GB"),
    # The headline and the sentence below it: where the order is.
    "pay_once": _("If you already sent money, do not pay twice: it appears here when the network has it."),
    "in_work": _("Your order is being worked on"),
    "choose": _("Choose how to pay"),
    "choose_lead": _("Your order is placed. Pick a coin and we show you the exact amount and the address."),
    "choose_again": _("Choose a coin again"),
    "quote_unpaid": _("The last quote ended without a payment. Choose a coin again."),
    "quote_ended": _("The quote has ended. Choose a coin again."),
    "waiting": _("Waiting for your payment"),
    "waiting_lead": _("This page updates as soon as the network shows your payment."),
    "returned": _("Your payment was returned"),
    "returned_lead": _(
        "The payment provider sent your coins back, so nothing is paid. Choose a coin to pay again. If your coins have"
        " not arrived within a day, write to us."
    ),
    "address_late": _("We are still waiting for a payment address. Choose a coin to try again; nothing was charged."),
    "address_coming": _("Getting your payment address…"),
    "address_coming_lead": _("This takes a few seconds."),
    "seen": _("Payment seen"),
    "rest": _("Waiting for the rest"),
    "rest_lead": _("{missing} are still missing. This page updates as soon as the network shows this payment."),
    "underpaid": _("Not all of the money arrived"),
    "underpaid_lead": _(
        "{missing} are still missing. What arrived counts. Choose a coin for the rest; any coin will do."
    ),
    "underpaid_of": _(
        "{paid} of {asked} arrived, {missing} are still missing. What arrived counts. Choose a coin for the rest; any"
        " coin will do."
    ),
    "paid": _("Paid. We are getting your key"),
    "partly": {
        "one": _("{ready} of {wanted} keys is ready"),
        "other": _("{ready} of {wanted} keys are ready"),
    },
    "key_ready": {"one": _("Your key is ready"), "other": _("Your keys are ready")},
    "key_ready_lead": _("Have fun. This page stays here if you need a key again."),
    "key_gone": {"one": _("Your key is no longer kept"), "other": _("Your keys are no longer kept")},
    "key_gone_lead": _(
        "We keep keys only for a limited time after we deliver them. What is not here any more was destroyed, and"
        " nobody can open it. If you still need it, write to us."
    ),
    "has_to_wait": _("Your key has to wait"),
    "on_hold": _("Your order is on hold"),
    "expired": _("This order has expired"),
    "cancelled": _("Order cancelled"),
    "failed": _("This order could not be completed"),
    "refund_due": _("We owe you a refund"),
    "refunded": _("Your money was returned"),
    "expected": _("Expected by {time}"),
    "link_replaced": _("This link has been replaced"),
    "link_lost": _("This link does not open an order"),
    "link_lost_lead": _("It may be cut off or too old. Nothing is lost: ask for a new one, and we e-mail it to you."),
    "enter_code": _("Enter your code"),
    "enter_code_lead": _("Type the six digits from our e-mail below. If they have expired, ask for new ones here."),
    # Money that goes back.
    "refund_asks": _("Your money goes back to you. Tell us below which address it goes to."),
    "refund_has_address": _(
        "Your money goes back to you. We have your address: our staff send the coins by hand and e-mail you, and the"
        " transaction appears here."
    ),
    "refund_on_its_way": _("Your money is on its way back to you."),
    "refund_done": _("This was sent back and has arrived."),
    "refund_sent": _("This was sent to you. The network may take a while to show it."),
    "refund_rests": _("The address was changed, so we send nothing before {time}. Was that not you? Write to us."),
    "refund_address": _(
        "We return this to you. Copy the address from your wallet: coins sent to a wrong address are lost."
    ),
    "refund_check": _("We return this to you. Please check the address; it cannot be changed once the coins are sent."),
    "refund_to_coin": _("Your address for {coin}"),
    "refund_to_ticker": _("Your {ticker} address"),
    "address_saved": _("The address is saved."),
    # Coins and the payment.
    "about": _("about {amount}"),
    "only_from": _("only from {minimum}"),
    "usual_minutes": _("usually {minutes} min"),
    "on_network": _("{coin}, network: {network}"),
    "all_coins": _("{number} coins: search by name or network."),
    "no_coin_found": _("Nothing matches. Try the coin's short name, such as BTC."),
    "coins_found": {"one": _("{number} coin found."), "other": _("{number} coins found.")},
    "type_more": _("Type more to see fewer."),
    "no_coins": _("No coin can be paid with right now. Your order is kept, and this page looks again."),
    "coins_unread": _("The list of coins did not load. This page tries again in a moment."),
    "send_payment": _("Send the payment"),
    "send_rest": _("Send the rest"),
    "no_time_limit": _("No time limit: the amount stays until you choose another coin."),
    "time_left": _("{time} left at this price"),
    "money_back_question": _("Shall we send your money back? We stop looking for your key then."),
    # Keys.
    "key_of": _("{title}, key {number} of {quantity}"),
    "opened": _("Opened {time}"),
    "reveal_key": _("Reveal the key: {name}"),
    "redeem_on": _("How to redeem it on {platform}"),
    "redeem": _("How to redeem it"),
    "keys_open": {"one": _("The key is open."), "other": _("The keys are open.")},
    "copy_all": _("Copy all {number}"),
    "download": _("Download"),
    "save_picture": _("Save the picture"),
    "save_file": _("Save the file"),
    "key_picture": _("Your key as a picture"),
    "copy": _("Copy"),
    "copy_key": _("Copy the key"),
    "copied": _("Copied ✓"),
    "press_copy": _("Selected: press Ctrl+C"),
    "copy_one_by_one": _("Please copy them one by one"),
    "opened_too_often": _("You opened keys very often. Please wait a little and try again; nothing is lost."),
    "not_handed_out": _("We could not hand out the key. Please try again; nothing is lost."),
    "key_damaged": _(
        "The key could not be opened: the download was damaged. Please try again, or reply to our e-mail."
    ),
    "not_downloaded": _("The key did not download. Please check your connection and try again; nothing is lost."),
    # Receipt and history.
    "receipt": _("Receipt"),
    "receipt_lead": _("What you ordered and what you paid. Print it or save it as a PDF."),
    "entries": {"one": _("{number} entry"), "other": _("{number} entries")},
    "just_now": _("just now"),
    "receipt_order": _("Order"),
    "receipt_ordered": _("Ordered"),
    "receipt_total": _("Total"),
    "receipt_paid": _("Paid"),
    "receipt_earlier": _("Paid before"),
    "receipt_unpaid": _("Nothing yet"),
    "receipt_network": _("Network"),
    "receipt_our_address": _("To our address"),
    "receipt_transaction": _("Transaction"),
    "receipt_to_send": _("To be sent back"),
    "receipt_sent": _("Sent back"),
    "receipt_your_address": _("To your address"),
    "receipt_arrived": _("Arrived"),
    # Talking to the shop.
    "unreachable": _("We cannot reach the shop right now. Your order is safe, and this page keeps trying."),
    "no_answer": _("We got no answer. Please try again in a moment."),
    "nothing_paid": _("Nothing is paid until you send it."),
    "email_changed": _("The address is changed. We mail your link there."),
    "link_coming": _(
        "If this order belongs to that address, a new link is on its way. Please check your inbox and the spam folder."
    ),
    "code_coming": _(
        "If this order belongs to that address, a code of six digits is on its way. It works for 15 minutes; please"
        " type it here. We send at most three codes an hour."
    ),
    "asked_too_often": _("You asked for that very often. Please wait a few minutes and try again."),
    "close_question": _("Close every other link and page of this order? The link in our e-mails stops working, too."),
    "links_closed": _("Done. Only this page opens the order now, and the new link that we just e-mailed you."),
}
