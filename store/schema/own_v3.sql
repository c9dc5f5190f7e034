-- Version 3: a leader writes large plans by two connections, its lanes.

-- Each lane has a fence row of its own, alike in all but what the lane itself
-- writes. What concerns the shard changes the rows of all lanes in one
-- statement.
@FENCE_BY_LANE@;

-- Version 2 knows of one row only: it cannot take over from version 3.
UPDATE hostsched_facts SET value = '3' WHERE name = 'oldest';
