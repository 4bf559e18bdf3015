"""How a refusal of the choke points appears in the admin.

In a form, at its field, with everything that was typed kept; after an action, as a message that names the row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from scheduler.errors import SchedulerError

EVENT_REFUSED = "admin.write_refused"
NAMED = 5
"""How many refused rows a bulk action names."""

_logger = logging.getLogger(__name__)


class RefusableForm(forms.ModelForm):  # type: ignore[type-arg]
    """A model form that shows `refusal`, when there is one, at the field that it names."""

    refusal: ClassVar[SchedulerError | None] = None
    refusal_fields: ClassVar[dict[str, str]] = {}
    """Argument of the choke points and the form's field for it, where they differ."""

    def clean(self) -> dict[str, Any] | None:
        """As Django's; a refusal of an earlier try makes the form invalid."""
        cleaned = super().clean()
        if self.refusal is not None:
            argument = getattr(self.refusal, "field", "")
            field = self.refusal_fields.get(argument, argument)
            self.add_error(field if field in self.fields else None, str(self.refusal))
        return cleaned


class RefusalMixin:
    """Mixin of a model admin whose writes may be refused with `SchedulerError`.

    Only the write itself can tell for sure what is acceptable. So the form is saved first; when that is refused its
    transaction is rolled back, and the form is shown once more with the refusal as an error of its field.
    """

    def refusal_of(self, error: SchedulerError | IntegrityError | DataError, row: Any) -> SchedulerError:
        """What to tell the user of `error`, met while `row` was written.

        A project whose own constraints or triggers hang on the tables extends it by what their violation means.
        """
        if isinstance(error, SchedulerError):
            return error
        _logger.error("%s model=%s id=%s", EVENT_REFUSED, type(row).__name__, row.pk, exc_info=error)
        diagnostics = getattr(error.__cause__, "diag", None)
        return SchedulerError(f"The database refused it: {getattr(diagnostics, 'message_primary', None) or error}")

    @contextmanager
    def refusals(self, row: Any) -> Iterator[None]:
        """Raises what `refusal_of` makes of an error of the block."""
        try:
            yield
        except (SchedulerError, IntegrityError, DataError) as error:
            refusal = self.refusal_of(error, row)
            if refusal is error:
                raise
            raise refusal from error

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The add and change pages."""
        show: Any = super().changeform_view  # type: ignore[misc]
        try:
            response: HttpResponse = show(request, object_id, form_url, extra_context)
        except SchedulerError as error:
            if request.method != "POST":
                raise
            request.refusal = error  # type: ignore[attr-defined]
            response = show(request, object_id, form_url, extra_context)
        return response

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form class, with the refusal of this request's first try."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]
        return type(form.__name__, (form,), {"refusal": getattr(request, "refusal", None)})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """As the admin's. Raises `SchedulerError`, which the form then shows."""
        with self.refusals(obj):
            self.write(obj, form, change)

    def write(self, obj: Any, form: Any, change: bool) -> None:
        """Write what was typed; where the model writes its schedule itself, saving it is enough."""
        obj.save()

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """As the admin's, which crashes where a chosen id is none."""
        pk: Any = self.opts.pk  # type: ignore[attr-defined]
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                pk.to_python(chosen)
        except ValidationError as error:
            self._tell(request, f"Nothing done. {' '.join(error.messages)}", messages.ERROR)
            return None
        act: Any = super().response_action  # type: ignore[misc]
        response: HttpResponse | None = act(request, queryset, *args, **kwargs)
        return response

    def act_on_each(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        act: Callable[[Any], object],
        verb: str,
        log: Callable[[Any], object],
    ) -> None:
        """Act on each row in a transaction of its own; say how many were touched, and which were refused and why.

        `log` writes the history of a row that was touched.
        """
        done, refused = 0, []
        for row in rows.iterator(chunk_size=500):
            try:
                with self.refusals(row):
                    act(row)
            except SchedulerError as error:
                refused.append(f"{row}: {error}")
                continue
            log(row)
            done += 1
        opts: Any = self.opts  # type: ignore[attr-defined]
        noun = opts.verbose_name if done == 1 else opts.verbose_name_plural
        self._tell(request, f"{verb} {done} {noun}.", messages.SUCCESS if done else messages.WARNING)
        if refused:
            more = " …" if len(refused) > NAMED else ""
            self._tell(request, f"{len(refused)} refused: {'; '.join(refused[:NAMED])}{more}", messages.ERROR)

    def _tell(self, request: HttpRequest, text: str, level: int) -> None:
        self.message_user(request, text, level)  # type: ignore[attr-defined]
