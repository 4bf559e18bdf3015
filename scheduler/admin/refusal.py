"""How a refusal of the choke points appears in an admin form: at its field, with everything that was typed kept."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.http import HttpRequest, HttpResponse

from scheduler.errors import InvalidInput


class RefusableForm(forms.ModelForm):  # type: ignore[type-arg]
    """A model form that shows `refusal`, when there is one, at the field that it names."""

    refusal: ClassVar[InvalidInput | None] = None
    refusal_fields: ClassVar[dict[str, str]] = {}
    """Argument of the choke points and the form's field for it, where they differ."""

    def clean(self) -> dict[str, Any] | None:
        """As Django's; a refusal of an earlier try makes the form invalid."""
        cleaned = super().clean()
        if self.refusal is not None:
            field = self.refusal_fields.get(self.refusal.field, self.refusal.field)
            self.add_error(field if field in self.fields else None, str(self.refusal))
        return cleaned


class RefusalMixin:
    """Mixin of a model admin whose `save_model` may raise `InvalidInput`.

    Only the write itself can tell for sure what is acceptable. So the form is saved first; when that is refused its
    transaction is rolled back, and the form is shown once more with the refusal as an error of its field.
    """

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The add and change pages."""
        show: Any = super().changeform_view  # type: ignore[misc]
        try:
            response: HttpResponse = show(request, object_id, form_url, extra_context)
        except InvalidInput as error:
            request.refusal = error  # type: ignore[attr-defined]
            response = show(request, object_id, form_url, extra_context)
        return response

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form class, with the refusal of this request's first try."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]
        return type(form.__name__, (form,), {"refusal": getattr(request, "refusal", None)})
