"""`/api/v1/` and its documentation."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import DefaultRouter

from backend.api.views.comparison import ComparisonViewSet
from backend.api.views.cutover import CutoverViewSet, HandoverViewSet
from backend.api.views.pipelines import PipelineViewSet
from backend.api.views.preview import ForecastViewSet, PreviewViewSet
from backend.api.views.queue import MessageViewSet, TaskViewSet
from backend.api.views.queues import AllQueuesViewSet, DeadLetterViewSet, QueueViewSet
from backend.api.views.runs import RunViewSet
from backend.api.views.schedules import ScheduleViewSet

router = DefaultRouter()
router.include_format_suffixes = False
router.register("pipelines", PipelineViewSet, basename="pipeline")
router.register("schedules", ScheduleViewSet, basename="schedule")
router.register("runs", RunViewSet, basename="run")
router.register("comparison", ComparisonViewSet, basename="comparison")
router.register("cutover/handovers", HandoverViewSet, basename="handover")
router.register("cutover", CutoverViewSet, basename="cutover")
router.register("preview", PreviewViewSet, basename="preview")
router.register("forecast", ForecastViewSet, basename="forecast")
router.register("tasks", TaskViewSet, basename="task")
router.register("messages", MessageViewSet, basename="message")
router.register("queues", QueueViewSet, basename="queue")
router.register("all-queues", AllQueuesViewSet, basename="all-queues")
router.register("dead-letters", DeadLetterViewSet, basename="dead-letter")

urlpatterns = [
    path("v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("v1/", include(router.urls)),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
]
