//! Which path does what. A bucket may be called `public` or `sign`, and what such a path means depends on the method
//! and on what follows; hence one table in order of precedence instead of a tree of routes.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{
    Storage, body, buckets,
    call::Call,
    delete,
    download::{self, Access, Answer},
    error::{Error, Result},
    list, signed, transfer,
    upload::{self, Existing, Target},
};

/// Serves a request.
pub async fn serve(State(storage): State<Arc<Storage>>, request: Request) -> Response {
    Box::pin(dispatch(&storage, request.map(body::lingering)))
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn dispatch(storage: &Arc<Storage>, request: Request) -> Result<Response> {
    let (head, body) = request.into_parts();
    let call = Arc::new(Call::new(&head, &storage.keys));
    let query = head.uri.query();
    let path = head.uri.path().trim_start_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    let read = |access, answer, bucket: &str, key: &[&str]| Read {
        access,
        answer,
        bucket: decode(bucket),
        key: decode(&key.join("/")),
    };
    let read = match (&head.method, segments.as_slice()) {
        (&Method::GET | &Method::HEAD, ["object", "public", bucket, key @ ..]) if !key.is_empty() => {
            read(Access::Public, Answer::content(&head.method), bucket, key)
        }
        (&Method::GET | &Method::HEAD, ["object", "authenticated", bucket, key @ ..]) if !key.is_empty() => {
            read(Access::Authenticated, Answer::content(&head.method), bucket, key)
        }
        (&Method::GET | &Method::HEAD, ["object", "info", "public", bucket, key @ ..]) if !key.is_empty() => {
            read(Access::Public, Answer::info(&head.method), bucket, key)
        }
        (&Method::GET | &Method::HEAD, ["object", "info", "authenticated", bucket, key @ ..]) if !key.is_empty() => {
            read(Access::Authenticated, Answer::info(&head.method), bucket, key)
        }
        (&Method::GET | &Method::HEAD, ["object", "info", bucket, key @ ..]) if !key.is_empty() => {
            read(Access::PublicOrAuthenticated, Answer::info(&head.method), bucket, key)
        }
        (&Method::GET | &Method::HEAD, ["object", "sign", bucket, key @ ..]) if !key.is_empty() => {
            let query = body::query(query)?;
            return signed::download(
                storage,
                &call,
                Answer::content(&head.method),
                &decode(bucket)?,
                &decode(&key.join("/"))?,
                query,
            )
            .await;
        }
        (&Method::GET | &Method::HEAD, ["object", bucket, key @ ..]) if !key.is_empty() => read(
            Access::PublicOrAuthenticated,
            Answer::content(&head.method),
            bucket,
            key,
        ),
        _ => return change(storage, &call, &head.method, &segments, query, body).await,
    };
    let (bucket, key) = (read.bucket?, read.key?);
    download::download(
        storage,
        &call,
        read.access,
        read.answer,
        &bucket,
        &key,
        body::query(query)?,
    )
    .await
}

/// A request for an object.
struct Read {
    access: Access,
    answer: Answer,
    bucket: Result<String>,
    key: Result<String>,
}

async fn change(
    storage: &Arc<Storage>,
    call: &Arc<Call>,
    method: &Method,
    segments: &[&str],
    query: Option<&str>,
    body: axum::body::Body,
) -> Result<Response> {
    match (method.as_str(), segments) {
        ("POST", ["bucket"] | ["bucket", ""]) => buckets::create(storage, call, body::json(body).await?).await,
        ("GET", ["bucket"] | ["bucket", ""]) => buckets::list(storage, call, body::query(query)?).await,
        ("GET", ["bucket", id]) => buckets::get(storage, call, &decode(id)?).await,
        ("PUT", ["bucket", id]) => buckets::update(storage, call, &decode(id)?, body::json(body).await?).await,
        ("DELETE", ["bucket", id]) => buckets::delete(storage, call, &decode(id)?).await,
        ("POST", ["bucket", id, "empty"]) => buckets::empty(storage, call, &decode(id)?).await,

        ("POST", ["object", "list", bucket]) => {
            list::list(storage, call, &decode(bucket)?, body::json(body).await?).await
        }
        ("POST", ["object", "list-v2", bucket]) => {
            list::list_v2(storage, call, &decode(bucket)?, body::json(body).await?).await
        }
        ("POST", ["object", "move"]) => transfer::r#move(storage, call, body::json(body).await?).await,
        ("POST", ["object", "copy"]) => transfer::copy(storage, call, body::json(body).await?).await,
        ("POST", ["object", "upload", "sign", bucket, key @ ..]) if !key.is_empty() => {
            let target = target(call, bucket, key, Existing::asked(call))?;
            signed::upload_url(storage, call, target).await
        }
        ("PUT", ["object", "upload", "sign", bucket, key @ ..]) if !key.is_empty() => {
            let (bucket, key) = (decode(bucket)?, decode(&key.join("/"))?);
            signed::upload(storage, call, bucket, key, body::query(query)?, body).await
        }
        ("POST", ["object", "sign", bucket]) => {
            signed::download_urls(storage, call, &decode(bucket)?, body::json(body).await?).await
        }
        ("POST", ["object", "sign", bucket, key @ ..]) => {
            let (bucket, key) = (decode(bucket)?, decode(&key.join("/"))?);
            signed::download_url(storage, call, &bucket, &key, body::json(body).await?).await
        }
        ("POST", ["object", bucket, key @ ..]) if !key.is_empty() => {
            let target = target(call, bucket, key, Existing::asked(call))?;
            upload::upload(storage, call, target, body, "storage.object.upload").await
        }
        ("PUT", ["object", bucket, key @ ..]) if !key.is_empty() => {
            let target = target(call, bucket, key, Existing::Replace)?;
            upload::upload(storage, call, target, body, "storage.object.upload_update").await
        }
        ("DELETE", ["object", bucket]) => {
            delete::delete_many(storage, call, &decode(bucket)?, body::json(body).await?).await
        }
        ("DELETE", ["object", bucket, key @ ..]) => {
            delete::delete(storage, call, &decode(bucket)?, &decode(&key.join("/"))?).await
        }

        ("GET", ["status"]) => Ok(StatusCode::OK.into_response()),
        ("GET", ["health"]) => Ok(Json(json!({ "healthy": true })).into_response()),
        ("GET", ["version"]) => Ok(env!("CARGO_PKG_VERSION").into_response()),
        (method, ["bucket" | "object" | "render", ..]) => {
            Err(Error::NoSubRoute(format!("{method}:/{}", segments.join("/"))))
        }
        (method, _) => Err(Error::NoRoute(format!("{method}:/{}", segments.join("/")))),
    }
}

/// What a caller writes to.
fn target(call: &Call, bucket: &str, key: &[&str], existing: Existing) -> Result<Target> {
    Ok(Target {
        bucket: decode(bucket)?,
        key: decode(&key.join("/"))?,
        owner: call.subject()?.map(str::to_owned),
        existing,
    })
}

fn decode(text: &str) -> Result<String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Error::InvalidKey(text.to_owned())),
    }
}
