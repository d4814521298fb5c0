//! Which commands there are, where their keys stand, and which of them change what a connection is. Names and places
//! are those of `COMMAND` (Redis 7.0 to 8, Valkey, the modules of Redis Stack); argument 0 is the name.

use std::{collections::HashMap, sync::LazyLock};

use foldhash::fast::FixedState;

/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// In upper case, with its subcommand: `GET`, `CONFIG SET`.
    pub name: &'static str,
    pub keys: Keys,
    pub kind: Kind,
    /// An argument that is no key and is shown nevertheless; 0 if there is none.
    pub shown: u8,
}

/// Which arguments are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    None,
    /// From `first` to `last`, every `step`th. A negative `last` counts from the end: -1 is the last argument.
    Range {
        first: u8,
        last: i8,
        step: u8,
    },
    /// As many as argument `at` says follow it; with `destination`, so is argument 1.
    Counted {
        at: u8,
        destination: bool,
    },
    /// The first half of what follows the word `STREAMS`, which may stand from argument `from` on.
    Streams {
        from: u8,
    },
    /// Argument 1, and what follows `STORE` or `STOREDIST`.
    Store,
    /// Argument 3, and all that follow the word `KEYS`.
    Migrate,
}

/// What a command does to the connection or to the replies that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One reply, soon.
    Plain,
    /// One reply, which may be long in coming because it waits for somebody else.
    Blocking,
    /// Subscribes or unsubscribes: one reply for each channel, and messages from then on.
    Subscription,
    /// From its reply on the server tells of all commands, without end.
    Monitor,
    /// From its reply on the connection is a replication link.
    Replication,
    /// `REPLCONF`: what replicas say before and, on a replication link, without a reply.
    ReplicaConfig,
    Multi,
    Exec,
    Discard,
    /// Its arguments are credentials.
    Auth,
    /// As [`Self::Auth`]; and sets the version of the protocol.
    Hello,
    /// Runs a script or a function, of which argument 1 is the source or the name.
    Script,
    /// Argument 1 is the database from now on.
    Select,
    /// `CLIENT REPLY`: argument 2 says whether there are replies from now on.
    Reply,
    /// The connection is as if it were new.
    Reset,
    Quit,
    /// Argument 1 is a subcommand.
    Container,
}

const ONE: Keys = Keys::Range { first: 1, last: 1, step: 1 };
const TWO: Keys = Keys::Range { first: 1, last: 2, step: 1 };
const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1 };
const COUNTED: Keys = Keys::Counted { at: 2, destination: false };

/// Where keys stand, what kind, what else is shown; and which commands these are.
type Group = (Keys, Kind, u8, &'static str);

const GROUPS: &[Group] = &[
    (
        ONE,
        Kind::Plain,
        0,
        "APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DELEX DIGEST DUMP EXPIRE EXPIREAT EXPIRETIME GEOADD \
         GEODIST GEOHASH GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE GETSET \
         HDEL HEXISTS HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET \
         HMSET HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS \
         INCR INCRBY INCRBYFLOAT LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MOVE PERSIST \
         PEXPIRE PEXPIREAT PEXPIRETIME PFADD PSETEX PTTL RESTORE RESTORE-ASKING RPOP RPUSH RPUSHX SADD SCARD SET \
         SETBIT SETEX SETNX SETRANGE SISMEMBER SMEMBERS SMISMEMBER SORT_RO SPOP SRANDMEMBER SREM SSCAN STRLEN SUBSTR \
         TTL TYPE XACK XACKDEL XADD XAUTOCLAIM XCLAIM XDEL XDELEX XLEN XPENDING XRANGE XREVRANGE XSETID XTRIM ZADD \
         ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK \
         ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN \
         ZSCORE VADD VCARD VDIM VEMB VGETATTR VINFO VISMEMBER VLINKS VRANDMEMBER VRANGE VREM VSETATTR VSIM",
    ),
    (
        ALL,
        Kind::Plain,
        0,
        "DEL EXISTS MGET PFCOUNT PFMERGE SDIFF SDIFFSTORE SINTER SINTERSTORE SUNION SUNIONSTORE",
    ),
    (ALL, Kind::Plain, 0, "TOUCH UNLINK WATCH"),
    (
        TWO,
        Kind::Plain,
        0,
        "COPY GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE TS.CREATERULE TS.DELETERULE",
    ),
    (Keys::Range { first: 1, last: -1, step: 2 }, Kind::Plain, 0, "MSET MSETNX"),
    (Keys::Range { first: 2, last: -1, step: 1 }, Kind::Plain, 0, "BITOP"),
    (SECOND, Kind::Plain, 0, "PFDEBUG"),
    (TWO, Kind::Blocking, 0, "BLMOVE BRPOPLPUSH"),
    (
        Keys::Range { first: 1, last: -2, step: 1 },
        Kind::Blocking,
        0,
        "BLPOP BRPOP BZPOPMAX BZPOPMIN",
    ),
    (COUNTED, Kind::Blocking, 0, "BLMPOP BZMPOP"),
    (
        Keys::Counted { at: 1, destination: false },
        Kind::Plain,
        0,
        "LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION",
    ),
    (
        Keys::Counted { at: 2, destination: true },
        Kind::Plain,
        0,
        "ZDIFFSTORE ZINTERSTORE ZUNIONSTORE CMS.MERGE TDIGEST.MERGE",
    ),
    (COUNTED, Kind::Script, 0, "EVAL EVAL_RO"),
    (COUNTED, Kind::Script, 1, "EVALSHA EVALSHA_RO FCALL FCALL_RO"),
    (Keys::Streams { from: 1 }, Kind::Blocking, 0, "XREAD"),
    (Keys::Streams { from: 4 }, Kind::Blocking, 0, "XREADGROUP"),
    (Keys::Store, Kind::Plain, 0, "GEORADIUS GEORADIUSBYMEMBER SORT"),
    (Keys::Migrate, Kind::Plain, 0, "MIGRATE"),
    (
        Keys::None,
        Kind::Plain,
        0,
        "ASKING BGREWRITEAOF BGSAVE DBSIZE DEBUG ECHO FAILOVER FLUSHALL FLUSHDB INFO KEYS LASTSAVE LOLWUT MSETEX \
         PFSELFTEST PING PUBLISH RANDOMKEY READONLY READWRITE REPLICAOF ROLE SAVE SCAN SHUTDOWN SLAVEOF SPUBLISH SWAPDB \
         TIME UNWATCH",
    ),
    (Keys::None, Kind::Blocking, 0, "WAIT WAITAOF"),
    (
        Keys::None,
        Kind::Subscription,
        0,
        "PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE UNSUBSCRIBE",
    ),
    (Keys::None, Kind::Monitor, 0, "MONITOR"),
    (Keys::None, Kind::Replication, 0, "PSYNC SYNC"),
    (Keys::None, Kind::ReplicaConfig, 0, "REPLCONF"),
    (Keys::None, Kind::Multi, 0, "MULTI"),
    (Keys::None, Kind::Exec, 0, "EXEC"),
    (Keys::None, Kind::Discard, 0, "DISCARD"),
    (Keys::None, Kind::Auth, 0, "AUTH"),
    (Keys::None, Kind::Hello, 1, "HELLO"),
    (Keys::None, Kind::Select, 1, "SELECT"),
    (Keys::None, Kind::Reset, 0, "RESET"),
    (Keys::None, Kind::Quit, 0, "QUIT"),
    (
        Keys::None,
        Kind::Container,
        0,
        "ACL CLIENT CLUSTER COMMAND CONFIG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SENTINEL SLOWLOG XGROUP \
         XINFO",
    ),
    // Modules. The index of a search stands where a key would.
    (
        ONE,
        Kind::Plain,
        0,
        "FT.AGGREGATE FT.ALTER FT.CREATE FT.DROPINDEX FT.EXPLAIN FT.HYBRID FT.INFO FT.PROFILE FT.SEARCH \
         FT.SUGADD FT.SUGDEL FT.SUGGET FT.SUGLEN FT.TAGVALS JSON.ARRAPPEND JSON.ARRINDEX JSON.ARRINSERT JSON.ARRLEN \
         JSON.ARRPOP JSON.ARRTRIM JSON.CLEAR JSON.DEL JSON.FORGET JSON.GET JSON.MERGE JSON.NUMINCRBY JSON.NUMMULTBY \
         JSON.OBJKEYS JSON.OBJLEN JSON.RESP JSON.SET JSON.STRAPPEND JSON.STRLEN JSON.TOGGLE JSON.TYPE BF.ADD BF.CARD \
         BF.EXISTS BF.INFO BF.INSERT BF.LOADCHUNK BF.MADD BF.MEXISTS BF.RESERVE BF.SCANDUMP CF.ADD CF.ADDNX CF.COUNT \
         CF.DEL CF.EXISTS CF.INFO CF.INSERT CF.INSERTNX CF.LOADCHUNK CF.MEXISTS CF.RESERVE CF.SCANDUMP CMS.INCRBY \
         CMS.INFO CMS.INITBYDIM CMS.INITBYPROB CMS.QUERY TOPK.ADD TOPK.COUNT TOPK.INCRBY TOPK.INFO TOPK.LIST \
         TOPK.QUERY TOPK.RESERVE TDIGEST.ADD TDIGEST.BYRANK TDIGEST.BYREVRANK TDIGEST.CDF TDIGEST.CREATE TDIGEST.INFO \
         TDIGEST.MAX TDIGEST.MIN TDIGEST.QUANTILE TDIGEST.RANK TDIGEST.RESET TDIGEST.REVRANK TDIGEST.TRIMMED_MEAN \
         TS.ADD TS.ALTER TS.CREATE TS.DECRBY TS.DEL TS.GET TS.INCRBY TS.INFO TS.RANGE TS.REVRANGE GRAPH.DELETE \
         GRAPH.EXPLAIN GRAPH.PROFILE GRAPH.QUERY GRAPH.RO_QUERY",
    ),
    (Keys::Range { first: 1, last: -2, step: 1 }, Kind::Plain, 0, "JSON.MGET"),
    (Keys::Range { first: 1, last: -1, step: 3 }, Kind::Plain, 0, "JSON.MSET TS.MADD"),
    (Keys::None, Kind::Plain, 0, "FT._LIST FT.CURSOR TS.MGET TS.MRANGE TS.MREVRANGE TS.QUERYINDEX"),
];

/// Subcommands of a container.
type Subcommands = (&'static str, Keys, Kind, u8, &'static str);

const SUBCOMMANDS: &[Subcommands] = &[
    (
        "ACL",
        Keys::None,
        Kind::Auth,
        0,
        "CAT DELUSER DRYRUN GENPASS GETUSER HELP LIST LOAD LOG SAVE SETUSER USERS WHOAMI",
    ),
    (
        "CLIENT",
        Keys::None,
        Kind::Plain,
        0,
        "CACHING GETNAME GETREDIR HELP ID INFO KILL LIST NO-EVICT NO-TOUCH PAUSE SETINFO SETNAME TRACKING TRACKINGINFO \
         UNBLOCK UNPAUSE",
    ),
    ("CLIENT", Keys::None, Kind::Reply, 2, "REPLY"),
    (
        "CLUSTER",
        Keys::None,
        Kind::Plain,
        0,
        "ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNT-FAILURE-REPORTS COUNTKEYSINSLOT DELSLOTS DELSLOTSRANGE FAILOVER \
         FLUSHSLOTS FORGET GETKEYSINSLOT HELP INFO LINKS MEET MYID MYSHARDID NODES REPLICAS REPLICATE RESET SAVECONFIG \
         SET-CONFIG-EPOCH SETSLOT SHARDS SLAVES SLOT-STATS SLOTS",
    ),
    ("CLUSTER", SECOND, Kind::Plain, 0, "KEYSLOT"),
    ("COMMAND", Keys::None, Kind::Plain, 0, "COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST"),
    ("CONFIG", Keys::None, Kind::Plain, 0, "GET HELP RESETSTAT REWRITE SET"),
    ("FUNCTION", Keys::None, Kind::Plain, 0, "DELETE DUMP FLUSH HELP KILL LIST LOAD RESTORE STATS"),
    ("LATENCY", Keys::None, Kind::Plain, 0, "DOCTOR GRAPH HELP HISTOGRAM HISTORY LATEST RESET"),
    ("MEMORY", Keys::None, Kind::Plain, 0, "DOCTOR HELP MALLOC-STATS PURGE STATS"),
    ("MEMORY", SECOND, Kind::Plain, 0, "USAGE"),
    ("MODULE", Keys::None, Kind::Plain, 0, "HELP LIST LOAD LOADEX UNLOAD"),
    ("OBJECT", Keys::None, Kind::Plain, 0, "HELP"),
    ("OBJECT", SECOND, Kind::Plain, 0, "ENCODING FREQ IDLETIME REFCOUNT"),
    ("PUBSUB", Keys::None, Kind::Plain, 0, "CHANNELS HELP NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB"),
    ("SCRIPT", Keys::None, Kind::Plain, 0, "DEBUG EXISTS FLUSH HELP KILL LOAD SHOW"),
    (
        "SENTINEL",
        Keys::None,
        Kind::Plain,
        0,
        "CKQUORUM CONFIG DEBUG FAILOVER FLUSHCONFIG GET-MASTER-ADDR-BY-NAME HELP INFO-CACHE IS-MASTER-DOWN-BY-ADDR \
         MASTER MASTERS MONITOR MYID PENDING-SCRIPTS REMOVE REPLICAS RESET SENTINELS SET SIMULATE-FAILURE SLAVES",
    ),
    ("SLOWLOG", Keys::None, Kind::Plain, 0, "GET HELP LEN RESET"),
    ("XGROUP", Keys::None, Kind::Plain, 0, "HELP"),
    ("XGROUP", SECOND, Kind::Plain, 0, "CREATE CREATECONSUMER DELCONSUMER DESTROY SETID"),
    ("XINFO", Keys::None, Kind::Plain, 0, "HELP"),
    ("XINFO", SECOND, Kind::Plain, 0, "CONSUMERS GROUPS STREAM"),
];

type Table = HashMap<&'static [u8], Spec, FixedState>;

/// Commands by name, and subcommands by `CONTAINER SUBCOMMAND`.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::default();
    for &(keys, kind, shown, names) in GROUPS {
        for name in names.split(' ') {
            table.insert(name.as_bytes(), Spec { name, keys, kind, shown });
        }
    }
    for &(container, keys, kind, shown, names) in SUBCOMMANDS {
        for name in names.split(' ') {
            // Once for each row, for as long as the process lives.
            let name: &'static str = format!("{container} {name}").leak();
            table.insert(name.as_bytes(), Spec { name, keys, kind, shown });
        }
    }
    table
});

/// The command of this name (in upper case), or subcommand with the name of its container before it.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    TABLE.get(name)
}

/// Whether a command's name, or a subcommand with its container's, begins like this. For the rare cases in which
/// nothing else says that it is one.
#[must_use]
pub fn begins(prefix: &[u8]) -> bool {
    TABLE.keys().any(|name| name.starts_with(prefix))
}
