//! The names of gateways.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// One gateway on one database. Its name is part of its slot's and of its subscriptions' ids, so that what it leaves
/// behind when it is killed can be told from what others use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node(u32);

impl Node {
    /// The node of an identity.
    pub fn new(identity: &str) -> Self {
        let digest = Sha256::digest(identity.as_bytes());
        Self(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }

    /// The node of this number.
    pub fn numbered(number: u32) -> Self {
        Self(number)
    }

    /// The name as a number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Eight hexadecimal digits.
    pub fn name(self) -> String {
        format!("{:08x}", self.0)
    }

    /// The slot's name.
    pub fn slot(self) -> String {
        format!("switchboard_realtime_{}", self.name())
    }

    /// A new id that starts with the node's name.
    pub fn id(self) -> Uuid {
        let random = Uuid::new_v4().as_u128() << 32 >> 32;
        Uuid::from_u128(u128::from(self.0) << 96 | random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_by_slot_and_ids() {
        let node = Node::new("host/db");
        assert!(
            node.slot().len() < 64
                && node
                    .slot()
                    .bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        );
        assert!(node.id().to_string().starts_with(&node.name()));
        assert_ne!(node.id(), node.id());
        assert_ne!(node, Node::new("host/other"));
        assert_eq!(Node::numbered(node.number()), node);
    }
}
