from django.urls import path

from webhooks import views

urlpatterns = [
    path("api/payments/ipn", views.nowpayments, name="ipn"),
    path("api/webhooks/nowpayments", views.nowpayments),
    path("api/webhooks/kinguin", views.kinguin_webhook, name="kinguin-webhook"),
    path("api/webhooks/mail", views.mail_events, name="mail-webhook"),
    path("api/kinguin/webhook", views.kinguin_webhook),
]
