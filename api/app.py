"""The FastAPI app: routers and error handlers. Its pages load nothing from other hosts."""

from fastapi_offline import FastAPIOffline

from api import chat, completions, errors, ocr, playground, preview, system

DESCRIPTION = """Document OCR and visual chat.

Every parameter may be sent as a form field or in the query. Every error is
`{"detail": "<one sentence>"}`. Under `/v1` requests, answers and errors are OpenAI's."""

app = FastAPIOffline(title="ChatVLMLLM API", version="1.0.0", description=DESCRIPTION)
errors.install(app)
for module in (system, ocr, preview, chat, completions, playground):
    app.include_router(module.router)
app.mount("/playground", playground.files)
