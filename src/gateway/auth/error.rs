//! What can go wrong, and how the wire says it: an HTTP status, a code that programs compare, a sentence for people.
//! The shape of the body depends on the version of the API that the client speaks.

use std::sync::Arc;

use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// The date from which on clients expect `{code, message}`.
const FIRST_VERSION: &str = "2024-01-01";
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-supabase-api-version");
const CODE_HEADER: HeaderName = HeaderName::from_static("x-sb-error-code");

/// A refused or failed request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The body is no JSON, or not of the expected shape.
    #[error("Could not parse request body as JSON: {0}")]
    BadJson(String),
    /// The body is larger than the service reads.
    #[error("Request body is larger than 1 MiB")]
    TooLarge,
    /// A value in the request is not acceptable; the sentence says which.
    #[error("{0}")]
    Validation(String),
    /// A path with an id that is none.
    #[error("{0} must be an UUID")]
    NoUuid(&'static str),
    /// Acceptable values that do not fit the state of the user.
    #[error("{0}")]
    Unprocessable(String),
    /// No token, or not as a bearer.
    #[error("This endpoint requires a valid Bearer token")]
    NoAuthorization,
    /// A token with a wrong signature, expired, or without the needed claims.
    #[error("{0}")]
    BadJwt(String),
    /// A token whose subject cannot be an id.
    #[error("invalid claim: sub claim must be a UUID")]
    BadSubject,
    /// A token for another audience than the request names.
    #[error("Token audience doesn't match request audience")]
    Audience,
    /// A route that only the service key opens.
    #[error("{0}")]
    NotAdmin(&'static str),
    /// The token's user is gone.
    #[error("User from sub claim in JWT does not exist")]
    UserGone,
    /// The token's session was ended.
    #[error("Session from session_id claim in JWT does not exist")]
    SessionGone,
    /// The session of a token or refresh token is past its end.
    #[error("Invalid Refresh Token: Session Expired")]
    SessionExpired(StatusCode),
    /// The user is banned: 403 with an access token, 400 at sign-in.
    #[error("User is banned")]
    Banned(StatusCode),
    /// An address or id nobody has.
    #[error("User not found")]
    UserNotFound,
    /// Unknown user or wrong password; which of them is nobody's business.
    #[error("Invalid login credentials")]
    Credentials,
    /// A grant the token endpoint does not know.
    #[error("unsupported_grant_type")]
    GrantType,
    /// A code of a flow that was never begun, or is over.
    #[error("invalid flow state, no valid flow state found")]
    FlowStateNotFound,
    /// A right password, but the address was never confirmed.
    #[error("Email not confirmed")]
    EmailNotConfirmed,
    /// The request carries no refresh token; the one error in OAuth's shape.
    #[error("refresh_token required")]
    NoRefreshToken,
    /// A refresh token that does not exist, any more or ever.
    #[error("Invalid Refresh Token: Refresh Token Not Found")]
    RefreshTokenNotFound,
    /// A refresh token without its session.
    #[error("Invalid Refresh Token: No Valid Session Found")]
    RefreshTokenOrphaned,
    /// A refresh token spent longer ago than the reuse interval; its family was revoked.
    #[error("Invalid Refresh Token: Already Used")]
    RefreshTokenUsed,
    /// The same session is being changed by another request.
    #[error("Too many concurrent token refresh requests on the same session or refresh token")]
    Conflict,
    /// New users are not wanted.
    #[error("Signups not allowed for this instance")]
    SignupDisabled,
    /// Anonymous users are not wanted.
    #[error("Anonymous sign-ins are disabled")]
    AnonymousDisabled,
    /// A one-time code that is wrong, spent or too old.
    #[error("{0}")]
    OtpExpired(&'static str),
    /// No text messages are sent, so nobody signs in by phone: 400 at sign-up, 422 elsewhere.
    #[error("Unsupported phone provider")]
    PhoneDisabled(StatusCode),
    /// Sign-up with an address that is taken.
    #[error("User already registered")]
    UserExists,
    /// Another change to an address that is taken.
    #[error("A user with this email address has already been registered")]
    EmailExists,
    /// The same for a phone number.
    #[error("Phone number already registered by another user")]
    PhoneExists,
    /// Too weak for the rules; the reasons are among `length`, `characters`, `pwned`.
    #[error("{message}")]
    WeakPassword {
        /// What the rule is.
        message: String,
        /// Which rules were broken.
        reasons: Vec<&'static str>,
    },
    /// A change of the password to itself.
    #[error("New password should be different from the old password.")]
    SamePassword,
    /// The password given as the current one is not.
    #[error("Current password is incorrect")]
    CurrentPassword,
    /// The user has a second factor, the session has not used it.
    #[error("AAL2 session is required to update email or password when MFA is enabled.")]
    InsufficientAal,
    /// Another identity provider says who the user is.
    #[error("Updating email, phone, password of a SSO account only possible via SSO")]
    SsoManaged,
    /// Part of Supabase's API, not of this server.
    #[error("{message}")]
    Disabled {
        /// The code clients compare.
        code: &'static str,
        /// 404 or 422, as Supabase answers.
        status: StatusCode,
        /// What is off.
        message: &'static str,
    },
    /// No such path.
    #[error("Path not found")]
    NoRoute,
    /// A path that does not know the method.
    #[error("Method not allowed")]
    NoMethod,
    /// The deadline of a request passed.
    #[error("Processing this request timed out, please retry after a moment.")]
    Timeout,
    /// The database failed at something.
    #[error("{doing}")]
    Database {
        /// The sentence for the client; never the database's own.
        doing: &'static str,
        /// What the database said, for the log.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// A failure that is ours alone.
    #[error("Unexpected failure, please check server logs for more information")]
    Unexpected(Arc<anyhow::Error>),
}

/// Short for the service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A value the request must not have.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::Validation(message.into())
    }

    /// What a failed statement means to the client; `doing` is what he reads where it is no fault of his.
    pub fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| {
            let state = error.as_database_error().and_then(|error| error.code());
            match (&error, state.as_deref()) {
                (sqlx::Error::PoolTimedOut, _) | (_, Some("57014")) => Self::Timeout,
                // lock_not_available, deadlock_detected, serialization_failure
                (_, Some("55P03" | "40P01" | "40001")) => Self::Conflict,
                // data exceptions: a NUL in a text, a text longer than its column, a date out of range
                (_, Some(state)) if state.starts_with("22") => {
                    Self::validation("The request has a value that cannot be stored")
                }
                _ => Self::Database {
                    doing,
                    source: Arc::new(error),
                },
            }
        }
    }

    /// A failure that is no client's business.
    pub fn unexpected(error: impl Into<anyhow::Error>) -> Self {
        Self::Unexpected(Arc::new(error.into()))
    }

    /// How the wire says it: the status, and the code that programs compare.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
        const UNPROCESSABLE: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
        match self {
            Self::BadJson(_) => (BAD, "bad_json"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_entity_too_large"),
            Self::Validation(_) => (BAD, "validation_failed"),
            Self::NoUuid(_) => (StatusCode::NOT_FOUND, "validation_failed"),
            Self::Unprocessable(_) => (UNPROCESSABLE, "validation_failed"),
            Self::NoAuthorization => (StatusCode::UNAUTHORIZED, "no_authorization"),
            Self::BadJwt(_) => (FORBIDDEN, "bad_jwt"),
            Self::BadSubject => (BAD, "bad_jwt"),
            Self::Audience => (BAD, "unexpected_audience"),
            Self::NotAdmin(_) => (FORBIDDEN, "not_admin"),
            Self::UserGone => (FORBIDDEN, "user_not_found"),
            Self::SessionGone => (FORBIDDEN, "session_not_found"),
            Self::SessionExpired(status) => (*status, "session_expired"),
            Self::Banned(status) => (*status, "user_banned"),
            Self::UserNotFound => (StatusCode::NOT_FOUND, "user_not_found"),
            Self::Credentials | Self::GrantType => (BAD, "invalid_credentials"),
            Self::FlowStateNotFound => (StatusCode::NOT_FOUND, "flow_state_not_found"),
            Self::EmailNotConfirmed => (BAD, "email_not_confirmed"),
            Self::NoRefreshToken => (BAD, "validation_failed"),
            Self::RefreshTokenNotFound => (BAD, "refresh_token_not_found"),
            Self::RefreshTokenOrphaned => (BAD, "session_not_found"),
            Self::RefreshTokenUsed => (BAD, "refresh_token_already_used"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict"),
            Self::SignupDisabled => (UNPROCESSABLE, "signup_disabled"),
            Self::AnonymousDisabled => (UNPROCESSABLE, "anonymous_provider_disabled"),
            Self::OtpExpired(_) => (FORBIDDEN, "otp_expired"),
            Self::PhoneDisabled(status) => (*status, "phone_provider_disabled"),
            Self::UserExists => (UNPROCESSABLE, "user_already_exists"),
            Self::EmailExists => (UNPROCESSABLE, "email_exists"),
            Self::PhoneExists => (UNPROCESSABLE, "phone_exists"),
            Self::WeakPassword { .. } => (UNPROCESSABLE, "weak_password"),
            Self::SamePassword => (UNPROCESSABLE, "same_password"),
            Self::CurrentPassword => (BAD, "current_password_invalid"),
            Self::InsufficientAal => (StatusCode::UNAUTHORIZED, "insufficient_aal"),
            Self::SsoManaged => (UNPROCESSABLE, "user_sso_managed"),
            Self::Disabled { code, status, .. } => (*status, code),
            Self::NoRoute => (StatusCode::NOT_FOUND, "unknown"),
            Self::NoMethod => (StatusCode::METHOD_NOT_ALLOWED, "unknown"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "request_timeout"),
            Self::Database { .. } | Self::Unexpected(_) => (StatusCode::INTERNAL_SERVER_ERROR, "unexpected_failure"),
        }
    }

    /// The whole answer, in the shape the client's version expects.
    fn answer(&self, dated: bool) -> Response {
        let (status, code) = self.status_and_code();
        if matches!(self, Self::NoRefreshToken) {
            let body = json!({ "error": "invalid_request", "error_description": self.to_string() });
            return (status, Json(body)).into_response();
        }
        let mut body = if dated {
            json!({ "code": code, "message": self.to_string() })
        } else {
            json!({ "code": status.as_u16(), "error_code": code, "msg": self.to_string() })
        };
        if let Self::WeakPassword { reasons, .. } = self {
            body["weak_password"] = json!({ "reasons": reasons });
        }
        if status.is_server_error() {
            let id = Uuid::new_v4().to_string();
            match self {
                Self::Database { doing, source } => tracing::error!(error.id = id, error = %source, "{doing}"),
                Self::Unexpected(error) => tracing::error!(error.id = id, error = %error, "request failed"),
                _ => tracing::warn!(error.id = id, "{self}"),
            }
            if !dated {
                body["error_id"] = Value::String(id);
            }
        }
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CODE_HEADER, HeaderValue::from_static(code));
        if dated {
            headers.insert(VERSION_HEADER, HeaderValue::from_static(FIRST_VERSION));
        }
        response
    }
}

/// An error becomes a response in [`answer_in_version`], where the request's version is known.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status_and_code().0.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the errors of the routes within as the client's version of the API expects them.
pub async fn answer_in_version(request: Request, next: Next) -> Response {
    let dated = is_dated(request.headers());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Error>() {
        Some(error) => error.answer(dated),
        None => response,
    }
}

/// Whether the client speaks a version with `{code, message}`.
fn is_dated(headers: &HeaderMap) -> bool {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    let version = headers.get(VERSION_HEADER).and_then(|value| value.to_str().ok());
    version.is_some_and(|version| time::Date::parse(version, format).is_ok() && version >= FIRST_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_date_from_2024_on_asks_for_the_new_shape() {
        let dated = |version: &str| is_dated(&[(VERSION_HEADER, version.parse().unwrap())].into_iter().collect());
        assert!(dated("2024-01-01"));
        assert!(dated("2026-11-22"));
        assert!(!dated("2023-12-31"));
        assert!(!dated("latest"));
        assert!(!dated("2024-13-01"));
        assert!(!is_dated(&HeaderMap::new()));
    }
}
