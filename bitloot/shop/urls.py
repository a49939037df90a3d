from django.urls import include, path, re_path

from bitloot.shop import catalogue_api, crawlers, finding, order_api, pages, payment_api
from fulfillment.availability import refuse_sold_out
from fulfillment.exceptions import SoldOut
from orders.views import Orders

urlpatterns = [
    path("api/products", catalogue_api.ProductList.as_view(), name="api-products"),
    path("api/products/<slug:slug>", catalogue_api.ProductRead.as_view(), name="api-product"),
    path("api/orders", Orders.as_view(check=refuse_sold_out, also_answers=(SoldOut,)), name="api-orders"),
    path("api/orders/<str:order_id>", order_api.OrderRead.as_view(), name="api-order"),
    path("api/payments/create", payment_api.PaymentCreate.as_view(), name="api-payment-create"),
    path("", pages.shop_window, name="shop"),
    path("products/<slug:slug>", pages.product_page, name="product"),
    path("robots.txt", crawlers.robots_txt, name="robots"),
    path("sitemap.xml", crawlers.sitemap_xml, name="sitemap"),
    path("favicon.ico", crawlers.favicon, name="favicon"),
    path("checkout", pages.checkout, name="checkout"),
    path("orders/find", finding.find_order, name="find-order"),
    path("orders/<uuid:order_id>", pages.order_page, name="order-page"),
    path("orders/<uuid:order_id>/receipt", pages.receipt_page, name="receipt"),
    # What mail programs and people make of the address: capitals, a slash at the end, a `#` that came encoded.
    re_path(
        r"^orders/(?P<order_id>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})(?P<rest>/|/?#[\w.~-]*)?$",
        finding.to_order_page,
    ),
    # Terms, privacy, imprint: texts that staff write in the admin; drafts come with the migrations.
    path("pages/<path:url>", pages.text_page, name="text-page"),
    path("pages/", include("django.contrib.flatpages.urls")),  # for the addresses that the admin shows of them
]
