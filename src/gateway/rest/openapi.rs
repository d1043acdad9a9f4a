//! `GET /`: the description of the API.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use super::{
    OpenApiMode,
    error::{Error, Result},
    parse::media::Media,
    serve::Incoming,
};

/// Describes the API to whoever asks.
///
/// # Errors
/// PGRST107, PGRST126.
pub async fn root(incoming: &Incoming<'_>) -> Result<Response> {
    if incoming.settings.openapi_mode == OpenApiMode::Disabled {
        return Err(Error::new(StatusCode::NOT_FOUND, "PGRST126", "Root endpoint metadata is disabled").into());
    }
    let fits = |media: &Media| matches!(media, Media::OpenApi | Media::Json | Media::Any);
    if !incoming.accepted().iter().any(fits) {
        let listed: Vec<_> = incoming.accepted().iter().map(ToString::to_string).collect();
        let message = format!("None of these media types are available: {}", listed.join(", "));
        return Err(Error::new(StatusCode::NOT_ACCEPTABLE, "PGRST107", message).into());
    }
    let mut response = Response::new(Body::from("{}"));
    if let Ok(value) = HeaderValue::try_from(Media::OpenApi.content_type()) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    Ok(response)
}
