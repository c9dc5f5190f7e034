package replica

import (
	"time"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
)

// Silent does nothing. Observers that need only some of the events embed it.
type Silent struct{}

// Leading implements Observer.
func (Silent) Leading(shard.Name, int64, time.Duration) {}

// Ended implements Observer.
func (Silent) Ended(shard.Name, error) {}

// Ticked implements Observer.
func (Silent) Ticked(shard.Name, Report) {}

// Checked implements Observer.
func (Silent) Checked(shard.Name, admin.Findings) {}

// Replanned implements Observer.
func (Silent) Replanned(shard.Name) {}

// Failed implements Observer.
func (Silent) Failed(shard.Name, error) {}

// Observers passes every event on to several observers, in order.
type Observers []Observer

// Leading implements Observer.
func (o Observers) Leading(name shard.Name, token int64, takeOver time.Duration) {
	for _, each := range o {
		each.Leading(name, token, takeOver)
	}
}

// Ended implements Observer.
func (o Observers) Ended(name shard.Name, cause error) {
	for _, each := range o {
		each.Ended(name, cause)
	}
}

// Ticked implements Observer.
func (o Observers) Ticked(name shard.Name, r Report) {
	for _, each := range o {
		each.Ticked(name, r)
	}
}

// Checked implements Observer.
func (o Observers) Checked(name shard.Name, f admin.Findings) {
	for _, each := range o {
		each.Checked(name, f)
	}
}

// Replanned implements Observer.
func (o Observers) Replanned(name shard.Name) {
	for _, each := range o {
		each.Replanned(name)
	}
}

// Failed implements Observer.
func (o Observers) Failed(name shard.Name, err error) {
	for _, each := range o {
		each.Failed(name, err)
	}
}
