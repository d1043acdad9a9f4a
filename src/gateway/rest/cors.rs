//! Which pages may call, where no gateway in front of the service says so.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};

use super::serve::App;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, \
     Range-Unit",
);
const A_DAY: HeaderValue = HeaderValue::from_static("86400");

/// Answers preflights, and tells browsers who may read the other answers.
pub async fn answer<A: Future<Output = Response>>(
    app: &App,
    request: Request,
    answer: impl FnOnce(Request) -> A,
) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return answer(request).await;
    };
    let snapshot = app.current.get();
    let allowed = snapshot.settings.server_cors_allowed_origins.as_deref();
    let Some(allowed) = allow(&origin, allowed) else {
        return answer(request).await;
    };
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let preflight = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if request.method() == Method::OPTIONS && preflight {
        let mut response = ().into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers_allowed(wanted.as_ref()));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, A_DAY);
        response
    } else {
        let mut response = answer(request).await;
        response
            .headers_mut()
            .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        response
    };
    response.headers_mut().extend(allowed);
    response
}

/// The headers that let an origin read the answer; `None` if it may not.
fn allow(origin: &HeaderValue, allowed: Option<&[String]>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let Some(allowed) = allowed else {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return Some(headers);
    };
    if !allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()) {
        return None;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    Some(headers)
}

/// What is always allowed, with what is asked for in the middle.
fn headers_allowed(wanted: Option<&HeaderValue>) -> HeaderValue {
    let wanted = wanted.and_then(|wanted| wanted.to_str().ok()).unwrap_or_default();
    let names: Vec<&str> = std::iter::once("Authorization")
        .chain(wanted.split(',').map(str::trim).filter(|name| !name.is_empty()))
        .chain(["Accept", "Accept-Language", "Content-Language"])
        .collect();
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("Authorization"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_origins_alone_may_call_with_credentials() {
        let named = vec!["https://desk.example".to_owned()];
        let of = |origin: &'static str, allowed| allow(&HeaderValue::from_static(origin), allowed);
        let anybody = of("https://elsewhere.example", None).unwrap();
        assert_eq!(anybody[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!anybody.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        let desk = of("https://desk.example", Some(&named)).unwrap();
        assert_eq!(desk[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://desk.example");
        assert_eq!(desk[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(of("https://elsewhere.example", Some(&named)), None);
    }
}
