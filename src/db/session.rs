//! A session of our own on Postgres's protocol, for statements whose settings travel with them.
