// Package paperlab has labs on paper: snapshots that need no database, and a simulated day
// of such a lab. Both are for measuring the planner.
//
//   - lab.go generates a lab and its queue at one moment
//   - day.go plays a day: jobs arrive, run, end, and some hosts are repaired
//   - figures.go says how well the jobs were served
//
// The same spec gives the same lab and the same day, whatever the rules of the planner.
package paperlab
