//! The chats, and whom their tokens speak for.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::server::Server;

/// All chats.
pub struct Data {
    /// In the order of their customers.
    pub sessions: Vec<Session>,
}

/// A chat.
#[derive(Clone)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Its customer, then its agent.
    pub people: [Person; 2],
}

/// Somebody with an account and a token.
#[derive(Clone)]
pub struct Person {
    /// His id.
    pub id: String,
    /// His token.
    pub token: String,
}

impl Data {
    /// Makes so many chats.
    pub async fn make(server: &Server, chats: usize) -> Result<Self> {
        let database = server.connect().await?;
        // `call` ends transactions, so each statement goes by itself.
        let sql = include_str!("../realtime.sql").replace("$chats", &chats.to_string());
        for statement in statements(&sql) {
            database
                .batch_execute(&statement)
                .await
                .with_context(|| statement.clone())?;
        }
        let sql = "select id::text, customer_id::text, agent_id::text
            from public.chat_sessions
            where agent_id is not null
            order by customer_id";
        let rows = database.query(sql, &[]).await?;
        ensure!(rows.len() == chats, "{} of {chats} chats have an agent", rows.len());
        let secret = server.keys.get("JWT_SECRET").context("the server has no JWT secret")?;
        let person = |id: String| {
            let token = token(secret, &id);
            Person { id, token }
        };
        let session = |row: &tokio_postgres::Row| Session {
            id: row.get(0),
            people: [person(row.get(1)), person(row.get(2))],
        };
        Ok(Self {
            sessions: rows.iter().map(session).collect(),
        })
    }
}

/// Split at the semicolons that end a line outside of a body.
fn statements(sql: &str) -> Vec<String> {
    let (mut all, mut one, mut body) = (Vec::new(), String::new(), false);
    for line in sql.lines() {
        one.push_str(line);
        one.push('\n');
        body ^= line.matches("$$").count() % 2 == 1;
        if !body && line.ends_with(';') {
            all.push(std::mem::take(&mut one));
        }
    }
    all
}

/// A token as GoTrue makes it, with all its claims: they are what a server has to hold and compare.
fn token(secret: &str, user: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let claims = json!({
        "aud": "authenticated", "exp": now + 86_400, "iat": now, "iss": "http://127.0.0.1:54321/auth/v1", "sub": user,
        "email": format!("{user}@example.com"), "phone": "", "role": "authenticated", "aal": "aal1",
        "app_metadata": { "provider": "email", "providers": ["email"] }, "user_metadata": { "full_name": "Some Body" },
        "amr": [{ "method": "password", "timestamp": now }], "session_id": user, "is_anonymous": false,
    });
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"HS256","typ":"JWT"}"#),
        part(&claims.to_string())
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key may have any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}
