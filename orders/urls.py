from django.urls import path, re_path

from orders import views

urlpatterns = [
    re_path(r"^covers/(?P<digest>[0-9a-f]{40})-(?P<side>800|400)\.webp$", views.cover, name="cover"),
    path("api/orders/lookup", views.OrderLookup.as_view(), name="api-order-lookup"),
    path("api/orders/code", views.CodeByMail.as_view(), name="api-order-code"),
    path("api/orders/redeem", views.CodeRedeem.as_view(), name="api-order-redeem"),
    path("api/orders/email", views.ChangeAddress.as_view(), name="api-order-email"),
    path("api/orders/language", views.ChooseLanguage.as_view(), name="api-order-language"),
    path("api/orders/close-links", views.CloseOtherLinks.as_view(), name="api-order-close-links"),
]
