FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

# The packages alone first, so that a change of the code does not install them again.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pg_queue/__init__.py pg_queue/__init__.py
COPY scheduler/__init__.py scheduler/__init__.py
RUN pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt --editable '.[celery,solar,service]'

COPY manage.py ./
COPY pg_queue pg_queue
COPY scheduler scheduler
COPY backend backend
RUN python -m compileall -q pg_queue scheduler backend

# A uid that no host account has; it owns nothing of the image.
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "gunicorn", "backend.wsgi:application", "--bind=0.0.0.0:8000", "--workers=2", "--threads=4", "--no-control-socket"]
