//! What a refused request is answered: PostgREST's codes, statuses and shapes.

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::db::session::{Failure, Refusal};

/// A refused request.
#[derive(Clone, Debug)]
pub struct Error {
    /// The answer's status.
    pub status: StatusCode,
    /// The status line's words, where SQL chose them.
    pub reason: Option<String>,
    /// Headers besides those every error has.
    pub headers: HeaderMap,
    /// Whether details and hint are kept back.
    pub brief: bool,
    body: Shape,
}

#[derive(Clone, Debug)]
struct Shape {
    code: Cow<'static, str>,
    message: String,
    details: Value,
    hint: Value,
}

/// Shorthand for what every step of a request returns.
pub type Result<T, E = Box<Error>> = std::result::Result<T, E>;

impl Error {
    /// An error with a code of PostgREST's.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: None,
            headers: HeaderMap::new(),
            brief: false,
            body: Shape {
                code: code.into(),
                message: message.into(),
                details: Value::Null,
                hint: Value::Null,
            },
        }
    }

    /// A 400.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// With details, text or not.
    #[must_use]
    pub fn details(mut self, details: impl Into<Value>) -> Self {
        self.body.details = details.into();
        self
    }

    /// With a hint, if there is one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Value>) -> Self {
        self.body.hint = hint.into();
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    /// A query string that cannot be read: where it stops making sense and what could stand there.
    pub fn syntax(what: &str, value: &str, column: usize, details: String) -> Self {
        let message = format!("\"failed to parse {what} ({value})\" (line 1, column {column})");
        Self::bad("PGRST100", message).details(details)
    }

    /// A range that makes no sense or has no rows.
    pub fn range(details: impl Into<String>) -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "PGRST103",
            "Requested range not satisfiable",
        )
        .details(details.into())
    }

    /// More or fewer rows than the one that was asked for.
    pub fn not_single(rows: &str) -> Self {
        let message = "Cannot coerce the result to a single JSON object";
        Self::new(StatusCode::NOT_ACCEPTABLE, "PGRST116", message).details(format!("The result contains {rows} rows"))
    }

    /// The answer is not ready to be given: the schema has not been read yet.
    pub fn no_catalog() -> Self {
        let message = "Could not query the database for the schema cache. Retrying.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "PGRST002", message).header(header::RETRY_AFTER, "1")
    }

    /// No session could be opened.
    pub fn no_connection(failure: Failure) -> Self {
        let details = match failure {
            Failure::Refused(refusal) => refusal.message,
            Failure::Broken(error) => error.to_string(),
            Failure::Busy => return Self::from_failure(failure, false),
        };
        tracing::warn!(error = %details, "cannot connect to the database");
        let message = "Database connection error.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "PGRST000", message)
            .details(details)
            .header(header::RETRY_AFTER, "1")
    }

    /// Our own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "PGRSTX00", message)
    }

    /// A failed transaction. `anonymous` says whether the caller acts as the role of callers without a token.
    pub fn from_failure(failure: Failure, anonymous: bool) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::from_refusal(*refusal, anonymous),
            Failure::Busy => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "PGRST003",
                "Timed out acquiring connection from connection pool.",
            ),
            Failure::Broken(error) => {
                tracing::warn!(%error, "lost the database in a request");
                let message = "Database client error. Retrying the connection.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "PGRST001", message)
                    .details(error.to_string())
                    .header(header::RETRY_AFTER, "1")
            }
        }
    }

    fn from_refusal(refusal: Refusal, anonymous: bool) -> Self {
        if refusal.code == "PGRST" {
            return raised(&refusal);
        }
        let status = status_of(&refusal, anonymous);
        let mut error = Self::new(status, "", refusal.message);
        if refusal.code.starts_with("PT") {
            error.reason = Some(error.body.message.clone());
        }
        if status == StatusCode::UNAUTHORIZED {
            error = error.header(header::WWW_AUTHENTICATE, "Bearer");
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            error = error.header(header::RETRY_AFTER, "1");
        }
        error.body.code = refusal.code.into();
        error.details(refusal.detail).hint(refusal.hint)
    }
}

/// `raise sqlstate 'PGRST'`: message and detail are JSON that describe the whole answer.
fn raised(refusal: &Refusal) -> Error {
    let wrong = |details: String, hint: &str| {
        let message = "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error";
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, "PGRST121", message)
            .details(details)
            .hint(hint)
    };
    let wrong_message = || {
        wrong(
            format!("Invalid JSON value for MESSAGE: '{}'", refusal.message),
            "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', \
             'hint'.",
        )
    };
    let detail_hint =
        "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'.";
    let Ok(message) = serde_json::from_str::<Value>(&refusal.message) else {
        return wrong_message();
    };
    let (Some(code), Some(text)) = (message["code"].as_str(), message["message"].as_str()) else {
        return wrong_message();
    };
    let Some(detail) = &refusal.detail else {
        return wrong("DETAIL is missing in the RAISE statement".to_owned(), detail_hint);
    };
    let parsed = serde_json::from_str::<Value>(detail).ok().and_then(|parsed| {
        let status = StatusCode::from_u16(u16::try_from(parsed["status"].as_u64()?).ok()?).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in parsed["headers"].as_object()? {
            let name = header::HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.insert(name, HeaderValue::from_str(value.as_str()?).ok()?);
        }
        Some((status, headers, parsed["status_text"].as_str().map(str::to_owned)))
    });
    let Some((status, headers, reason)) = parsed else {
        return wrong(format!("Invalid JSON value for DETAIL: '{detail}'"), detail_hint);
    };
    let mut error = Error::new(status, "", text);
    error.body.code = code.to_owned().into();
    (error.headers, error.reason) = (headers, reason);
    error.details(message["details"].clone()).hint(message["hint"].clone())
}

fn status_of(refusal: &Refusal, anonymous: bool) -> StatusCode {
    let code = refusal.code.as_str();
    if let Some(number) = code.strip_prefix("PT") {
        let status = number.parse().ok().and_then(|number| StatusCode::from_u16(number).ok());
        return status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let class = code.get(..2).unwrap_or_default();
    let status = match (class, code) {
        ("08", _) => 503,
        ("0L" | "0P", _) => 403,
        (_, "23503" | "23505") => 409,
        (_, "25006") => 405,
        (_, "21000") if refusal.message.ends_with("requires a WHERE clause") => 400,
        (_, "22023") if refusal.message.starts_with("role ") && refusal.message.ends_with("does not exist") => 401,
        (_, "22023") => 400,
        ("28", _) => 403,
        (_, "53400") => 500,
        ("53", _) => 503,
        (_, "57P01") => 503,
        (_, "P0001") => 400,
        (_, "42883") if refusal.message.starts_with("function xmlagg(") => 406,
        (_, "42883" | "42P01") => 404,
        (_, "42P17") => 500,
        (_, "42501") if anonymous => 401,
        (_, "42501") => 403,
        (
            "09" | "21" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58" | "F0" | "HV" | "P0"
            | "XX",
            _,
        ) => 500,
        _ => 400,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        // serde_json keeps members sorted by name, which is PostgREST's order.
        let mut body = json!({ "code": self.body.code, "message": self.body.message });
        if !self.brief {
            body["details"] = self.body.details;
            body["hint"] = self.body.hint;
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, json);
        if let Ok(proxy_status) = HeaderValue::try_from(format!("PostgREST; error={}", self.body.code)) {
            headers.insert("proxy-status", proxy_status);
        }
        headers.extend(self.headers);
        if let Some(reason) = self.reason {
            super::reply::set_reason(&mut response, reason);
        }
        response
    }
}

impl From<Error> for Box<Response> {
    fn from(error: Error) -> Self {
        Box::new(error.into_response())
    }
}
