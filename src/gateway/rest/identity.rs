//! Whose token it is, and so as which role the database is asked.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    Settings,
    error::{Error, Result},
};
use crate::gateway::{
    caller::Claims,
    keys::now,
    verifier::{TokenError, Verifier},
};

/// How far the clocks of those who sign tokens may be from ours, in seconds.
const LEEWAY: i64 = 30;

/// Who calls.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The database role.
    pub role: String,
    claims: Shown,
    /// Whether the role is that of callers without a token, which decides between 401 and 403.
    pub anonymous: bool,
}

/// Where the claims that SQL sees are.
#[derive(Clone, Debug)]
enum Shown {
    /// In the token, as they were signed.
    Signed(Arc<Claims>),
    /// Here, with the role that is in force.
    Own(String),
}

impl Identity {
    /// What `request.jwt.claims` is set to.
    pub fn claims(&self) -> &str {
        match &self.claims {
            Shown::Signed(claims) => claims.raw(),
            Shown::Own(claims) => claims,
        }
    }

    /// Reads and checks the request's token.
    ///
    /// # Errors
    /// PGRST300, PGRST301, PGRST302, PGRST303.
    pub fn of(headers: &HeaderMap, verifier: Option<&Verifier>, settings: &Settings) -> Result<Self> {
        let claims = match bearer(headers) {
            Some(token) => {
                let Some(verifier) = verifier else {
                    let message = "Server lacks JWT secret";
                    return Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, "PGRST300", message).into());
                };
                let claims = verifier.verify(token).map_err(|error| refused(token, &error))?;
                check(&claims, settings)?;
                Some(claims)
            }
            None => None,
        };
        let role = claims
            .as_ref()
            .and_then(|claims| match settings.jwt_role_claim_key.find(claims.fields())? {
                Value::Null => None,
                Value::String(role) => Some(role.clone()),
                other => Some(other.to_string()),
            });
        let Some(role) = role.or_else(|| settings.db_anon_role.clone()) else {
            let error = Error::new(StatusCode::UNAUTHORIZED, "PGRST302", "Anonymous access is disabled");
            return Err(error.header(header::WWW_AUTHENTICATE, "Bearer").into());
        };
        let shown = match claims {
            Some(claims) if claims.role() == Some(&role) => Shown::Signed(claims),
            Some(claims) => {
                let mut fields: Map<String, Value> = serde_json::from_str(claims.raw()).unwrap_or_default();
                fields.insert("role".to_owned(), Value::String(role.clone()));
                Shown::Own(Value::Object(fields).to_string())
            }
            None => Shown::Own(json!({ "role": role }).to_string()),
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
    // A scheme alone has an empty token: the blank behind it is lost on the way.
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn invalid(code: &'static str, message: &str) -> Error {
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{message}\"");
    Error::new(StatusCode::UNAUTHORIZED, code, message).header(header::WWW_AUTHENTICATE, &challenge)
}

fn refused(token: &str, error: &TokenError) -> Box<Error> {
    let unreadable = |message: &str| invalid("PGRST301", message);
    let key = "No suitable key or wrong key type";
    Box::new(match error {
        TokenError::Parts(_) if token.is_empty() => unreadable("Empty JWT is sent in Authorization header"),
        TokenError::Parts(parts) => unreadable(&format!("Expected 3 parts in JWT; got {parts}")),
        TokenError::Malformed => unreadable("JWT cryptographic operation failed"),
        TokenError::Unsigned => unreadable("Wrong or unsupported encoding algorithm")
            .details("JWT is unsecured but expected 'alg' was not 'none'"),
        TokenError::Algorithm => unreadable(key).details("No suitable key was found to decode the JWT"),
        TokenError::Signature => unreadable(key).details("None of the keys was able to decode the JWT"),
        TokenError::Claims => invalid("PGRST303", "Parsing claims failed"),
    })
}

/// Time and audience, one after the other as PostgREST does.
fn check(claims: &Claims, settings: &Settings) -> Result<()> {
    let now = now();
    let is_over = |time: i64| now - LEEWAY > time;
    let is_ahead = |time: i64| now + LEEWAY < time;
    check_time(claims, "exp", is_over, "JWT expired")?;
    check_time(claims, "nbf", is_ahead, "JWT not yet valid")?;
    check_time(claims, "iat", is_ahead, "JWT issued at future")?;
    let audiences: Vec<&str> = match claims.get("aud") {
        None => return Ok(()),
        Some(Value::String(audience)) => vec![audience],
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).collect()
        }
        Some(_) => {
            let message = "The JWT 'aud' claim must be a string or an array of strings";
            return Err(invalid("PGRST303", message).into());
        }
    };
    match &settings.jwt_aud {
        Some(wanted) if !audiences.is_empty() && !audiences.contains(&wanted.as_str()) => {
            Err(invalid("PGRST303", "JWT not in audience").into())
        }
        _ => Ok(()),
    }
}

fn check_time(claims: &Claims, name: &str, is_wrong: impl Fn(i64) -> bool, message: &str) -> Result<()> {
    match claims.get(name) {
        None => Ok(()),
        // A fraction counts as 0.
        Some(Value::Number(number)) if !is_wrong(number.as_i64().unwrap_or(0)) => Ok(()),
        Some(Value::Number(_)) => Err(invalid("PGRST303", message).into()),
        Some(_) => Err(invalid("PGRST303", &format!("The JWT '{name}' claim must be a number")).into()),
    }
}
