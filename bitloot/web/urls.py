from django.urls import path

from bitloot.web import health, orders, pages, staff

urlpatterns = [
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("api/orders/<str:order_id>", orders.OrderRead.as_view(), name="api-order"),
    path("api/admin/payments", staff.PaymentList.as_view(), name="staff-payments"),
    path("api/admin/payments/<uuid:payment_id>", staff.PaymentDetail.as_view(), name="staff-payment"),
    path(
        "api/admin/payments/orders/<uuid:order_id>/fulfillment",
        staff.OrderFulfillment.as_view(),
        name="staff-fulfillment",
    ),
    path("api/admin/reservations", staff.ReservationList.as_view(), name="staff-reservations"),
    path("api/admin/webhook-logs", staff.WebhookList.as_view(), name="staff-webhooks"),
    path("api/admin/webhook-logs/<int:log_id>/replay", staff.WebhookReplay.as_view(), name="staff-replay"),
    path("", pages.shop_window, name="shop"),
    path("products/<slug:slug>", pages.product_page, name="product"),
    path("checkout", pages.checkout, name="checkout"),
    path("orders/<uuid:order_id>", pages.order_page, name="order-page"),
]
