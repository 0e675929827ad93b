//! Requests of the server of several models: those about all models are answered here, every other goes to the routes of
//! the model that it names.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::held_body::HeldBody;
use super::{Fleet, Resident};
use crate::request::json::object;
use crate::server::api::{self, Wire, reshape};
use crate::server::client;
use crate::server::error::{ApiError, ApiResult, Type};
use crate::server::{body, guard, info, ollama, origin, routes, stream, web};

pub(super) fn router(fleet: Arc<Fleet>) -> Router {
    let no_sniffing = SetResponseHeaderLayer::overriding(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let cors = guard::cors(&fleet.settings().access);
    Router::new()
        .fallback(dispatch)
        .layer(from_fn(reshape))
        .layer(cors)
        .layer(no_sniffing)
        .layer(CatchPanicLayer::custom(routes::panicked))
        .with_state(fleet)
}

async fn dispatch(State(fleet): State<Arc<Fleet>>, request: Request) -> Response {
    fleet.answer(request).await.unwrap_or_else(IntoResponse::into_response)
}

/// The names of a model in a body; the second is Ollama's older one.
#[derive(Default, Deserialize)]
struct Named {
    model: Option<Value>,
    name: Option<Value>,
    stream: Option<bool>,
}

impl Named {
    /// # Errors
    /// 400 for a body that is no JSON object.
    fn of(bytes: &Bytes, depth: usize) -> ApiResult<Self> {
        if let Ok(named) = serde_json::from_slice(bytes) {
            return Ok(named);
        }
        let mut map = object(bytes, depth)?;
        let stream = map.remove("stream").and_then(|stream| stream.as_bool());
        Ok(Self { model: map.remove("model"), name: map.remove("name"), stream })
    }

    fn text(&self, path: &str) -> Option<&str> {
        let name = self.name.as_ref().filter(|_| path == "/api/show");
        self.model.as_ref().or(name)?.as_str().filter(|name| !name.is_empty())
    }
}

/// The model that an address names: `?model=NAME`.
fn asked(uri: &Uri) -> Option<String> {
    let pairs = url::form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.into_iter().find(|(name, _)| name == "model").map(|(_, value)| value.into_owned())
}

impl Fleet {
    async fn answer(self: &Arc<Self>, request: Request) -> ApiResult<Response> {
        origin::check(&self.settings().access, &request)?;
        let path = request.uri().path().to_owned();
        if request.method() != Method::GET {
            return self.ask(path, request).await;
        }
        match path.as_str() {
            "/health" | "/v1/health" => Ok(Json(json!({ "status": "ok" })).into_response()),
            "/models" | "/v1/models" => Ok(Json(self.list().await).into_response()),
            "/api/version" => Ok(ollama::version().await.into_response()),
            "/api/tags" | "/api/ps" => {
                self.keys.scope(request.headers())?;
                let all = path == "/api/tags";
                Ok(Json(json!({ "models": self.ollamas(all).await })).into_response())
            }
            "/props" | "/slots" | "/metrics" => {
                self.keys.scope(request.headers())?;
                let member = match asked(request.uri()) {
                    Some(name) => self.find(Some(&name))?,
                    None => self.used_last(path != "/props").await?,
                };
                Arc::clone(self).pass(member, request).await
            }
            _ => match path.strip_prefix("/v1/models/") {
                Some(name) => {
                    let member = self.find(Some(name))?;
                    Ok(Json(self.list().await["data"][member].take()).into_response())
                }
                None => Ok(web::file(request).await),
            },
        }
    }

    /// Reads the body, which names the model, and passes it on.
    async fn ask(self: &Arc<Self>, path: String, request: Request) -> ApiResult<Response> {
        self.keys.scope(request.headers())?;
        let (parts, sent) = request.into_parts();
        let bounds = &self.settings().bounds;
        let head = Request::from_parts(parts.clone(), sent);
        let read = body::read(&self.bodies, bounds, self.stopping(), head).await?;
        let named = Named::of(&read.bytes, bounds.request.json_depth);
        let streamed = api::dialect(&path).filter(|dialect| {
            // Ollama's streams are its default.
            named.as_ref().is_ok_and(|named| named.stream.unwrap_or(dialect.wire == Wire::Lines))
        });
        let member = match asked(&parts.uri) {
            Some(name) => self.find(Some(&name))?,
            None if path.starts_with("/slots/") => self.used_last(true).await?,
            None => self.find(named?.text(&path))?,
        };
        let request = Request::from_parts(parts, Body::from(read.bytes.clone()));
        let response = Arc::clone(self).pass(member, request);
        let Some(dialect) = streamed else { return response.await };
        // The body's share of the memory is held until it was passed on.
        let response = async move {
            let _read = read;
            response.await.unwrap_or_else(IntoResponse::into_response)
        };
        Ok(stream::head_first(dialect, response).await)
    }

    async fn pass(self: Arc<Self>, member: usize, request: Request) -> ApiResult<Response> {
        let (router, lease) = self.enter(member).await?;
        // Routes have no error of their own.
        let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
        Ok(response.map(|body| Body::new(HeldBody::new(body, lease))))
    }

    /// Returns the model that was asked last and is loaded. Without one, it is the first, unless it must be `loaded`.
    async fn used_last(&self, loaded: bool) -> ApiResult<usize> {
        match self.residents.lock().await.here.last() {
            Some(one) => Ok(one.member),
            None if !loaded => Ok(0),
            None => {
                Err(ApiError::new(Type::Unavailable, "no model is loaded: a request that names one loads it"))
            }
        }
    }

    /// All models in OpenAI's form, each with llama-server's `status`.
    async fn list(&self) -> Value {
        let residents = self.residents.lock().await;
        let members = self.members.iter().enumerate();
        let data: Vec<Value> = members
            .map(|(member, _)| match residents.here.iter().find(|one| one.member == member) {
                Some(one) => {
                    let mut described = info::described(&one.app);
                    described["status"] = json!({ "value": state(one) });
                    described
                }
                None => json!({
                    "id": self.name(member), "object": "model", "created": 0, "owned_by": "illava",
                    "meta": null, "status": { "value": "unloaded" },
                }),
            })
            .collect();
        let models = self.members.iter().enumerate().map(|(member, _)| {
            let name = self.name(member);
            json!({ "name": name, "model": name, "capabilities": ["completion", "multimodal"] })
        });
        json!({ "object": "list", "models": models.collect::<Vec<_>>(), "data": data })
    }

    /// Models in Ollama's form: all, or those that are loaded.
    async fn ollamas(&self, all: bool) -> Vec<Value> {
        let residents = self.residents.lock().await;
        let members = self.members.iter().enumerate();
        members
            .filter_map(|(member, of)| {
                let one = residents.here.iter().find(|one| one.member == member);
                match one.and_then(|one| Some((&one.app, one.app.client.ready()?))) {
                    Some((app, ready)) => Some(ollama::model(app, &ready)),
                    None if all => Some(ollama::unloaded(self.name(member), &of.settings.model_path)),
                    None => None,
                }
            })
            .collect()
    }
}

fn state(one: &Resident) -> &'static str {
    match one.app.client.state() {
        client::State::Ready(_) => "loaded",
        client::State::Loading(_) | client::State::Restarting(_) => "loading",
        client::State::Failed(_) | client::State::Ended => "unloaded",
    }
}
