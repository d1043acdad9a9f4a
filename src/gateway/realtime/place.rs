//! Places for sockets: how many there may be, of all clients and of one address.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};

/// The address a request comes from: the connection's, or where a proxy on this machine says it came from.
#[derive(Clone, Copy, Debug)]
pub struct Address(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Address {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let connection = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let connected = connection.map_or(IpAddr::from([127, 0, 0, 1]), |ConnectInfo(address)| address.ip());
        // The last one is the proxy's own word, what stands before it the client's.
        let said = parts
            .headers
            .get_all("x-forwarded-for")
            .iter()
            .next_back()
            .and_then(|list| list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok())
            .filter(|_| connected.to_canonical().is_loopback());
        Ok(Self(said.unwrap_or(connected).to_canonical()))
    }
}

/// Who sits where.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_of_one: Option<usize>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A socket's place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// So many, and so many of one address.
    pub fn new(most: usize, most_of_one: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_one,
            taken: Mutex::default(),
        })
    }

    /// A place, if there is one left.
    pub fn take(self: &Arc<Self>, Address(address): Address) -> Option<Place> {
        let mut taken = self.lock();
        let of_one = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.count >= self.most || self.most_of_one.is_some_and(|most| of_one >= most) {
            return None;
        }
        taken.count += 1;
        taken.by_address.insert(address, of_one + 1);
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.count -= 1;
        if let Some(of_one) = taken.by_address.get_mut(&self.address) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn places_are_taken_and_given_back() {
        let address = |last: u8| Address(IpAddr::from([10, 0, 0, last]));
        let places = Places::new(3, Some(2));
        let held = [places.take(address(1)), places.take(address(1))];
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(address(1)).is_none());
        let other = places.take(address(2));
        assert!(other.is_some() && places.take(address(3)).is_none());
        drop(held);
        assert!(places.take(address(1)).is_some());
        drop(other);
        assert!(places.lock().by_address.is_empty());
    }

    #[tokio::test]
    async fn only_a_proxy_on_this_machine_is_believed() {
        let of = async |peer: &str, forwarded: &str| {
            let request = Request::builder().header("x-forwarded-for", forwarded);
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let peer: SocketAddr = peer.parse().unwrap();
            parts.extensions.insert(ConnectInfo(peer));
            let Ok(address) = Address::from_request_parts(&mut parts, &()).await;
            address.0.to_string()
        };
        assert_eq!(of("127.0.0.1:9", "9.9.9.9, 8.8.8.8").await, "8.8.8.8");
        assert_eq!(of("127.0.0.1:9", "nonsense").await, "127.0.0.1");
        assert_eq!(of("10.0.0.1:9", "9.9.9.9").await, "10.0.0.1");
    }
}
