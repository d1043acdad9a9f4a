//! Sessions: how they log in, and that they keep callers apart.

mod callers;
mod login;
