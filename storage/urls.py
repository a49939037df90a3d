from django.urls import path

from storage import views

urlpatterns = [path("objects/<str:name>", views.serve_object, name="object")]
