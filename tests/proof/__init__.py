"""The proof of the cutover: real processes, real schedules, and harm at random; then everything that is left is judged.

`python -m tests.proof` (`make prove-cutover`) runs two phases, each on a database of its own: `stock`, with
django-celery-beat's own scheduler, and `gate`, with ours, which claims. In each a real `celery beat` and a Celery
worker, two schedulers and a worker of PG run some hundred schedules, which are promoted, rolled back, ramped, paused
and edited while the processes are killed and frozen. What is done follows from one seed; what comes of it does not.

Rooms: `scenario` (the schedules), `cast` (the processes), `chaos` (what is done), `performance` (one run of it),
`evidence` (what is left, read), `judge` (what was missed or done twice) with `rhythm`, `stretch` (what PG owned) and
`beats` (what Beat left out by itself), `report` with `story`; `tasks`, `broker` and `settings` for the processes. The
judge is pure, and does not ask the code that it judges: it works out for itself where each occurrence lies.
"""
