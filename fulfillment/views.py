import uuid
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bitloot.core.api import answers, client_network, has_body, json_body, may_answer
from bitloot.core.clients import Scope
from bitloot.core.staff_api import StaffView
from fulfillment import by_hand, exceptions, services
from fulfillment.money_back import give_money_back
from fulfillment.serializers import (
    DeliverSerializer,
    DeliveryStatusSerializer,
    DownloadLinkSerializer,
    DownloadReportSerializer,
    RevealRequestSerializer,
    RevealSerializer,
)
from orders.access import TOKEN_PROBLEMS, order_and_way_for, order_for
from orders.exceptions import OrderNotFound
from orders.models import Order
from storage.downloads import report_download
from storage.exceptions import KeyBelongsElsewhere, KeyShredded, KeyUnreadable, OpenedTooOften
from storage.models import Key
from storage.services import KeyMaterial, Opener, download_url, fallback_url, reveal

answers(exceptions.NothingStored, 404, "not_stored_yet", _("No key of this order is ready yet. Ask again in a moment."))
answers(
    exceptions.KeysGone, 410, "gone", _("The keys of this order are gone: they expired, or the order was refunded.")
)
answers(KeyShredded, 410, "gone", _("The keys of this order are gone: they expired, or the order was refunded."))
answers(KeyBelongsElsewhere, 404, "not_found", _("This order has no such key."))
answers(KeyUnreadable, 503, "integrity", _("The key cannot be handed out right now. Our staff know; nothing is lost."))
answers(OpenedTooOften, 429, "opened_too_often", _("It was opened too often. Try again in an hour; nothing is lost."))
answers(
    exceptions.PermitOpen, 409, "permit_open", str, example="A purchase may still deliver it. Wait until that is known."
)
answers(
    exceptions.NotDeliverable,
    409,
    "not_deliverable",
    str,
    example="It is not paid; nothing was changed.",
)
answers(
    exceptions.MoneyStays,
    409,
    "money_stays",
    str,
    example="A part of this order is delivered already. Write to us about the money for the rest.",
)
answers(
    exceptions.CodesRefused,
    422,
    "codes_refused",
    str,
    example="The same code was typed twice. Each unit needs a code of its own.",
)

KEY_PROBLEMS = (*TOKEN_PROBLEMS, exceptions.NothingStored, exceptions.KeysGone, KeyUnreadable)


class FulfillmentStatus(APIView):
    throttle_scope = "read"
    key_scopes = {"GET": Scope.READ}

    @may_answer(*TOKEN_PROBLEMS)
    @extend_schema(responses=DeliveryStatusSerializer)
    def get(self, request: Request, order_id: str) -> Response:
        """Show how far the delivery is."""
        return Response(status_body(order_for(request, order_id)))


class DownloadLink(APIView):
    throttle_scope = "read"
    key_scopes = {"GET": Scope.KEYS}

    @may_answer(*KEY_PROBLEMS)
    @extend_schema(responses=DownloadLinkSerializer)
    def get(self, request: Request, order_id: str) -> Response:
        """Link to the sealed keys. What a link leads to is ciphertext; `reveal` hands out what opens it."""
        order = order_for(request, order_id)
        links = [(key, download_url(key)) for key in services.keys_of(order)]
        return Response(
            {
                "order_id": order.id,
                "download_url": links[0][1].url,
                "expires_at": min(link.expires_at for _key, link in links),
                "message": _("These links lead to sealed keys and expire soon; ask again for fresh ones."),
                "keys": [_stored(key, link.url) for key, link in links],
            }
        )


class Reveal(APIView):
    throttle_scope = "reveal"
    key_scopes = {"POST": Scope.KEYS}

    @may_answer(*KEY_PROBLEMS, KeyShredded, OpenedTooOften)
    @extend_schema(request=RevealRequestSerializer, responses=RevealSerializer)
    def post(self, request: Request, order_id: str) -> Response:
        """Hand out what opens these keys, and log it. May be repeated until the retention ends."""
        order, way = order_and_way_for(request, order_id)
        asked = RevealRequestSerializer(data=json_body(request) if has_body(request) else {})
        asked.is_valid(raise_exception=True)
        keys = _chosen(services.keys_of(order), asked.validated_data.get("keys"))
        agent = request.headers.get("User-Agent", "")[:200].replace("\x00", "")
        by = Opener(way.purpose, way.generation, client_network(request), agent)
        materials = reveal(order=order, keys=keys, by=by)
        links = [(material, download_url(material.key)) for material in materials]
        return Response(
            {
                "order_id": order.id,
                "expires_at": min(link.expires_at for _key, link in links),
                "keys": [_openable(material, link.url) for material, link in links],
            }
        )


def _chosen(keys: list[Key], wanted: list[str] | None) -> list[Key]:
    chosen = keys if wanted is None else [key for key in keys if str(key.pk) in wanted]
    if wanted is not None and len(chosen) != len(set(wanted)):
        raise ValidationError({"keys": [_("This order has no such key that can be opened.")]})
    return chosen


class DownloadReport(APIView):
    throttle_scope = "reports"
    key_scopes = {"POST": Scope.KEYS}

    @may_answer(*TOKEN_PROBLEMS, KeyBelongsElsewhere)
    @extend_schema(request=DownloadReportSerializer, responses={204: None})
    def post(self, request: Request, order_id: str) -> Response:
        """Report how the download of a revealed key ended, so that trouble in browsers reaches the shop's staff."""
        order = order_for(request, order_id)
        told = DownloadReportSerializer(data=json_body(request))
        told.is_valid(raise_exception=True)
        report_download(order=order, key_id=told.validated_data["key"], result=told.validated_data["result"])
        return Response(status=204)


class MoneyBack(APIView):
    throttle_scope = "payments"
    key_scopes = {"POST": Scope.REFUNDS}

    @may_answer(*TOKEN_PROBLEMS, exceptions.MoneyStays)
    @extend_schema(request=None, responses={202: DeliveryStatusSerializer})
    def post(self, request: Request, order_id: str) -> Response:
        """Ask for the money back while the order waits for the supplier; its refund then waits for an address."""
        order = order_for(request, order_id)
        give_money_back(order)
        order.refresh_from_db()
        return Response(status_body(order), status=202)


class Deliver(StaffView):
    required_permissions = ("orders.deliver_order",)

    @may_answer(OrderNotFound, exceptions.NotDeliverable, exceptions.PermitOpen, exceptions.CodesRefused)
    @extend_schema(request=DeliverSerializer, responses={202: DeliveryStatusSerializer})
    def post(self, request: Request, order_id: uuid.UUID) -> Response:
        """Run or retry the delivery; with codes, deliver those."""
        asked = DeliverSerializer(data=json_body(request))
        asked.is_valid(raise_exception=True)
        order = Order.objects.filter(pk=order_id).first()
        if order is None:
            raise OrderNotFound
        actor = request.user.get_username()
        if codes := asked.validated_data.get("codes"):
            typed = [by_hand.Code(**code) for code in codes]
            _deliver(order, typed, reason=asked.validated_data["reason"], actor=actor)
        else:
            services.run_order(order, actor=actor)
        order.refresh_from_db()
        return Response(status_body(order), status=202)


def _deliver(order: Order, codes: list[by_hand.Code], *, reason: str, actor: str) -> None:
    try:
        by_hand.deliver_by_hand(order=order, codes=codes, reason=reason, actor=actor)
    except exceptions.CodeKnown as err:
        err.afterwards()
        raise


def status_body(order: Order) -> dict[str, Any]:
    body: dict[str, Any] = {"order_id": order.id, "status": order.fulfillment_word}
    if error := order.customer_error:
        body["error"] = error
    return body


def _stored(key: Any, url: str) -> dict[str, Any]:
    return {"id": key.id, "product": key.item.product.slug, "download_url": url, "content_type": key.content_type}


def _openable(material: KeyMaterial, url: str) -> dict[str, Any]:
    return _stored(material.key, url) | {
        "fallback_url": fallback_url(material.key).url,
        "algorithm": material.algorithm,
        "key": material.data_key,
        "nonce": material.nonce,
        "aad": material.aad,
    }
