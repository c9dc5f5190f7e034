package scheduler

const secondsPerHour = 3600

// rank returns the priority of a job with the points that it gained by waiting. A job
// whose priority is NULL counts as one of priority 0 as soon as it has gained a point.
func (s *Snapshot) rank(j *Job) int64 {
	if s.Rules.Aging == 0 || j.Created == 0 {
		return j.Priority
	}
	points := int64(s.Rules.Aging * float64(s.Now-j.Created) / secondsPerHour)
	switch {
	case points <= 0:
		return j.Priority
	case j.Priority == NoPriority:
		return points
	}
	return j.Priority + points
}
