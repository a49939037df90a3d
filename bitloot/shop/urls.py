from django.urls import path

from bitloot.shop import order_api, pages

urlpatterns = [
    path("api/orders/<str:order_id>", order_api.OrderRead.as_view(), name="api-order"),
    path("", pages.shop_window, name="shop"),
    path("products/<slug:slug>", pages.product_page, name="product"),
    path("checkout", pages.checkout, name="checkout"),
    path("orders/<uuid:order_id>", pages.order_page, name="order-page"),
]
