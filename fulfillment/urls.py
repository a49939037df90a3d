from django.urls import path

from fulfillment import views

urlpatterns = [
    path("api/fulfillment/<str:order_id>/status", views.FulfillmentStatus.as_view(), name="api-fulfillment-status"),
    path("api/fulfillment/<str:order_id>/download-link", views.DownloadLink.as_view(), name="api-download-link"),
    path("api/fulfillment/<str:order_id>/reveal", views.Reveal.as_view(), name="api-reveal"),
    path("api/fulfillment/<str:order_id>/download-report", views.DownloadReport.as_view(), name="api-download-report"),
    path("api/fulfillment/<str:order_id>/money-back", views.MoneyBack.as_view(), name="api-money-back"),
    path("api/fulfillment/<uuid:order_id>/deliver", views.Deliver.as_view(), name="api-deliver"),
]
