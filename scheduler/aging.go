package scheduler

import "math"

const secondsPerHour = 3600

// mostPoints bounds what a job gains by waiting to what an int64 can hold.
const mostPoints = 1 << 62

// rank returns the priority of a job with the points that it gained by waiting. A job
// whose priority is NULL counts as one of priority 0 as soon as it has gained a point. The
// priority can be any number that the database holds, so there is a highest rank.
func (s *Snapshot) rank(j *Job) int64 {
	if s.Rules.Aging == 0 || j.Created == 0 {
		return j.Priority
	}
	points := int64(min(mostPoints, s.Rules.Aging*float64(s.Now-j.Created)/secondsPerHour))
	switch {
	case points <= 0:
		return j.Priority
	case j.Priority == NoPriority:
		return points
	case j.Priority > math.MaxInt64-points:
		return math.MaxInt64
	}
	return j.Priority + points
}
