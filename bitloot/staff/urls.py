from django.urls import path

from bitloot.staff import access_api, api

urlpatterns = [
    path("login", access_api.Login.as_view(), name="staff-login"),
    path("logout", access_api.Logout.as_view(), name="staff-logout"),
    path("logoutall", access_api.LogoutAll.as_view(), name="staff-logout-all"),
    path("payments", api.PaymentList.as_view(), name="staff-payments"),
    path("payments/<uuid:payment_id>", api.PaymentDetail.as_view(), name="staff-payment"),
    path("payments/orders/<uuid:order_id>/fulfillment", api.OrderFulfillment.as_view(), name="staff-fulfillment"),
    path("reservations", api.ReservationList.as_view(), name="staff-reservations"),
    path("webhook-logs", api.WebhookList.as_view(), name="staff-webhooks"),
    path("webhook-logs/<int:log_id>/replay", api.WebhookReplay.as_view(), name="staff-replay"),
]
