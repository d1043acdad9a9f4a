//! Which pages may call: all of them, for rights come from tokens and never from where a page was served.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};

const ANY: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS");
const A_DAY: HeaderValue = HeaderValue::from_static("86400");

/// What pages may read of an answer.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "content-range,content-location,content-profile,location,link,preference-applied,proxy-status,range-unit,\
     x-total-count,x-supabase-api-version,x-sb-error-code",
);

/// The answer to a browser that asks before it calls. Another OPTIONS is for the service, which may tell what can be
/// done there.
pub fn preflight(request: &Request) -> Option<Response> {
    let asks = request.method() == Method::OPTIONS && request.headers().contains_key(header::ORIGIN);
    if !asks || !request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = ().into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, A_DAY);
    // Whatever is asked for: supabase-js adds headers with its releases.
    if let Some(wanted) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(
        header::VARY,
        HeaderValue::from_name(header::ACCESS_CONTROL_REQUEST_HEADERS),
    );
    Some(response)
}

/// Lets any page read an answer.
pub fn share(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
