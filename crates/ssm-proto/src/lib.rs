//! Wire codec of the AWS Systems Manager Session Manager data channel.
