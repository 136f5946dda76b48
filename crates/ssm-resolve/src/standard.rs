//! The order that most callers want.

use crate::{Aliases, Chain, ComputerName, InstanceAddress, InstanceTag, Inventory};
#[cfg(feature = "dns")]
use crate::{Dns, DnsAddress, DnsText};

impl Chain {
    /// The default order:
    ///
    /// 1. [`Aliases`];
    /// 2. [`InstanceTag`] (`tag:`, `asg:`, a name as Name tag), [`InstanceAddress`];
    /// 3. [`ComputerName`], which reads every managed node.
    ///
    /// More steps may follow with [`then`](Self::then).
    pub fn standard<I: Inventory + Clone + 'static>(aliases: Aliases, inventory: I) -> Self {
        Self::account(aliases, &inventory).then(ComputerName::new(inventory))
    }

    /// The default order with DNS: as [`standard`](Self::standard), and in front of the last step [`DnsAddress`] and
    /// [`DnsText`]. Both are asked at the same time as the account.
    #[cfg(feature = "dns")]
    pub fn standard_with_dns<I: Inventory + Clone + 'static>(
        aliases: Aliases,
        inventory: I,
        dns: Dns,
    ) -> Self {
        Self::account(aliases, &inventory)
            .alongside(DnsAddress::new(dns.clone(), inventory.clone()))
            .alongside(DnsText::new(dns))
            .then(ComputerName::new(inventory))
    }

    fn account<I: Inventory + Clone + 'static>(aliases: Aliases, inventory: &I) -> Self {
        Self::new()
            .then(aliases)
            .then(InstanceTag::new(inventory.clone()))
            .alongside(InstanceAddress::new(inventory.clone()))
    }
}
