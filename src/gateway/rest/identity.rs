//! Whose token it is, and so as which role the database is asked.

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    Settings,
    error::{Error, Result},
};
use crate::gateway::{
    caller::Claims,
    keys::{Keys, TokenError, now},
};

/// How far the clocks of those who sign tokens may be from ours, in seconds.
const LEEWAY: i64 = 30;

/// Who calls.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The database role.
    pub role: String,
    /// What `request.jwt.claims` is set to.
    pub claims: String,
    /// Whether the role is that of callers without a token, which decides between 401 and 403.
    pub anonymous: bool,
}

impl Identity {
    /// Reads and checks the request's token.
    ///
    /// # Errors
    /// PGRST301, PGRST302, PGRST303.
    pub fn of(headers: &HeaderMap, keys: &Keys, settings: &Settings) -> Result<Self> {
        let claims = match bearer(headers) {
            Some(token) => {
                let claims = keys.verify(token).map_err(|error| refused(token, &error))?;
                check(&claims, settings)?;
                Some(claims)
            }
            None => None,
        };
        let role = claims.as_ref().and_then(|claims| match claims.get("role")? {
            Value::String(role) => Some(role.clone()),
            other => Some(other.to_string()),
        });
        let Some(role) = role.or_else(|| settings.db_anon_role.clone()) else {
            let error = Error::new(StatusCode::UNAUTHORIZED, "PGRST302", "Anonymous access is disabled");
            return Err(error.header(header::WWW_AUTHENTICATE, "Bearer").into());
        };
        let shown = match &claims {
            Some(claims) if claims.role() == Some(&role) => claims.raw().to_owned(),
            Some(claims) => {
                let mut fields: Map<String, Value> = serde_json::from_str(claims.raw()).unwrap_or_default();
                fields.insert("role".to_owned(), Value::String(role.clone()));
                Value::Object(fields).to_string()
            }
            None => json!({ "role": role }).to_string(),
        };
        Ok(Self {
            anonymous: settings.db_anon_role.as_deref() == Some(&role),
            claims: shown,
            role,
        })
    }
}

/// The token; another scheme counts as none.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn invalid(code: &'static str, message: &str) -> Error {
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{message}\"");
    Error::new(StatusCode::UNAUTHORIZED, code, message).header(header::WWW_AUTHENTICATE, &challenge)
}

fn refused(token: &str, error: &TokenError) -> Box<Error> {
    let invalid = |message: &str| invalid("PGRST301", message);
    Box::new(match error {
        TokenError::Parts(_) if token.is_empty() => invalid("Empty JWT is sent in Authorization header"),
        TokenError::Parts(parts) => invalid(&format!("Expected 3 parts in JWT; got {parts}")),
        TokenError::Malformed => invalid("JWT cryptographic operation failed"),
        TokenError::Algorithm => invalid("Wrong or unsupported encoding algorithm")
            .details("JWT is unsecured or signed by another algorithm than HS256"),
        TokenError::Signature => {
            invalid("No suitable key or wrong key type").details("None of the keys was able to decode the JWT")
        }
    })
}

/// Time and audience, in PostgREST's order.
fn check(claims: &Claims, settings: &Settings) -> Result<()> {
    let invalid = |message: &str| Err(Box::new(invalid("PGRST303", message)));
    let now = now();
    let seconds = |name: &str| match claims.get(name) {
        None => Ok(None),
        // A fraction counts as 0.
        Some(Value::Number(number)) => Ok(Some(number.as_i64().unwrap_or(0))),
        Some(_) => Err(format!("The JWT '{name}' claim must be a number")),
    };
    let times = ["exp", "nbf", "iat"].map(seconds);
    for time in &times {
        if let Err(message) = time {
            return invalid(message);
        }
    }
    let [exp, nbf, iat] = times.map(Result::unwrap_or_default);
    if exp.is_some_and(|exp| now - LEEWAY > exp) {
        return invalid("JWT expired");
    }
    if nbf.is_some_and(|nbf| now + LEEWAY < nbf) {
        return invalid("JWT not yet valid");
    }
    if iat.is_some_and(|iat| now + LEEWAY < iat) {
        return invalid("JWT issued at future");
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        None => return Ok(()),
        Some(Value::String(audience)) => vec![audience],
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).collect()
        }
        Some(_) => return invalid("The JWT 'aud' claim must be a string or an array of strings"),
    };
    match &settings.jwt_aud {
        Some(wanted) if !audiences.is_empty() && !audiences.contains(&wanted.as_str()) => {
            invalid("JWT not in audience")
        }
        _ => Ok(()),
    }
}
