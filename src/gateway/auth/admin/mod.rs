//! `/admin`: what the service key may do to every user.
//!
//! - [`users`]: list, show, create, change, delete
//! - [`links`]: ways in, for whom the holder of the key sends a mail
//! - [`duration`]: how long a ban lasts, as clients write it

use axum::{
    Router,
    routing::{get, post},
};

use super::Auth;

mod duration;
mod links;
mod users;

/// The routes below `/admin`. Each asks for the service key itself, before it looks at anything else.
pub fn router() -> Router<Auth> {
    Router::new()
        .route("/users", get(users::list).post(users::create))
        .route("/users/{id}", get(users::show).put(users::update).delete(users::delete))
        .route("/users/{id}/factors", get(users::factors))
        .route("/generate_link", post(links::generate))
}
