from django.urls import path

from payments import views

urlpatterns = [
    path("api/payments/currencies", views.CoinList.as_view(), name="api-coins"),
    path("api/payments/refund-address", views.RefundAddress.as_view(), name="api-refund-address"),
    path("api/payments/refund-surplus", views.RefundSurplus.as_view(), name="api-refund-surplus"),
]
