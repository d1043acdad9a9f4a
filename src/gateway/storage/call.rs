//! One request as the database sees it: who calls, and what policies may ask about it.

use std::sync::Arc;

use axum::http::{HeaderMap, Method, header, request::Parts};
use serde_json::{Map, Value};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::error::{Error, Result};
use crate::gateway::{caller::Claims, keys::Keys, verifier::TokenError};

/// How long one statement may take: the limit of role `authenticated`, which setting a role does not bring along.
const STATEMENT_TIMEOUT: &str = "8s";

/// Who carries out the statements of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The caller, under row level security.
    Caller,
    /// The service, which row level security does not bind.
    Service,
}

/// A request, apart from its body.
#[derive(Debug)]
pub struct Call {
    /// Why the caller is nobody, if its token is missing or wrong.
    claims: std::result::Result<Arc<Claims>, &'static str>,
    token: String,
    method: Method,
    path: String,
    headers: HeaderMap,
}

impl Call {
    /// Reads the request's head.
    pub fn new(head: &Parts, keys: &Keys) -> Self {
        let authorization = head.headers.get(header::AUTHORIZATION);
        let token = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = strip_scheme(token).to_owned();
        Self {
            claims: verify(keys, &token),
            token,
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            headers: head.headers.clone(),
        }
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The caller's claims.
    ///
    /// # Errors
    /// When there is no valid token.
    pub fn claims(&self) -> Result<&Claims> {
        match &self.claims {
            Ok(claims) => Ok(claims),
            Err(reason) => Err(Error::denied(*reason)),
        }
    }

    /// The caller's user id, which owns what it uploads.
    ///
    /// # Errors
    /// When there is no valid token.
    pub fn subject(&self) -> Result<Option<&str>> {
        Ok(self.claims()?.subject())
    }

    /// Begins a transaction as the caller or as the service.
    ///
    /// # Errors
    /// When there is no valid token, the role is none the caller may have, or the database fails.
    pub async fn begin(
        &self,
        pool: &PgPool,
        identity: Identity,
        operation: &'static str,
    ) -> Result<Transaction<'static, Postgres>> {
        let mut transaction = pool.begin().await?;
        self.act_as(&mut transaction, identity, operation).await?;
        Ok(transaction)
    }

    /// Changes who carries out the rest of a transaction.
    ///
    /// # Errors
    /// As [`Call::begin`].
    pub async fn act_as(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        identity: Identity,
        operation: &'static str,
    ) -> Result<()> {
        let (role, token, subject, claims) = match identity {
            Identity::Caller => {
                let claims = self.claims()?;
                let role = claims.role().unwrap_or("anon");
                if role == "none" {
                    // `set role none` would make the caller the owner of the tables.
                    return Err(Error::denied("role \"none\" does not exist"));
                }
                (role, self.token.as_str(), claims.subject(), claims.raw())
            }
            Identity::Service => ("service_role", "", None, r#"{"role":"service_role"}"#),
        };
        sqlx::query(include_str!("../../../sql/gateway/storage_become.sql"))
            .bind(role)
            .bind(token)
            .bind(subject.unwrap_or_default())
            .bind(claims)
            .bind(self.headers_json())
            .bind(self.method.as_str())
            .bind(&self.path)
            .bind(operation)
            .bind(STATEMENT_TIMEOUT)
            .execute(&mut **transaction)
            .await?;
        Ok(())
    }

    fn headers_json(&self) -> String {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect();
        Value::Object(headers).to_string()
    }
}

/// `storage.objects.owner` holds users' ids only where they are UUIDs; `owner_id` holds any.
pub fn owner_uuid(owner: Option<&str>) -> Option<Uuid> {
    owner.and_then(|owner| Uuid::parse_str(owner).ok())
}

fn strip_scheme(authorization: &str) -> &str {
    match authorization.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => token,
        _ => authorization,
    }
}

/// The claims of a token in force, or the verifier's words.
pub fn verify(keys: &Keys, token: &str) -> std::result::Result<Arc<Claims>, &'static str> {
    let claims = keys.verify(token).map_err(|error| match error {
        TokenError::Parts(_) | TokenError::Malformed | TokenError::Claims => "Invalid Compact JWS",
        TokenError::Unsigned | TokenError::Algorithm => "\"alg\" (Algorithm) Header Parameter value not allowed",
        TokenError::Signature => "signature verification failed",
    })?;
    if claims.expired(0) {
        return Err("\"exp\" claim timestamp check failed");
    }
    Ok(claims)
}
