from django.urls import path

from orders import views

urlpatterns = [
    path("api/products", views.ProductList.as_view(), name="api-products"),
    path("api/orders", views.OrderCreate.as_view(), name="api-orders"),
    path("api/orders/lookup", views.OrderLookup.as_view(), name="api-order-lookup"),
]
